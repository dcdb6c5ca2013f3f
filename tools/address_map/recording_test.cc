// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "tools/address_map/recording.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "benchmarks/test_files.h"

namespace dmamap::address_map {
namespace {

using bench::Compress;
using bench::WriteTestFile;

constexpr const char* kIova = "us,cpu,op,dom,pfn,pages,limit_pfn\n";
constexpr const char* kDma = "us,cpu,op,addr,size,dir,off\n";

Recording Read(const std::string& file, const std::string& text,
               std::optional<std::uint64_t> domain = std::nullopt) {
  const auto recording = ReadRecording(WriteTestFile(file, text), domain);
  EXPECT_TRUE(recording.ok()) << recording.status();
  return recording.ok() ? *recording : Recording();
}
absl::Status Refusal(const std::string& text,
                     std::optional<std::uint64_t> domain = std::nullopt) {
  return ReadRecording(WriteTestFile("bad.csv", text), domain).status();
}
bool Contains(absl::string_view text, absl::string_view part) {
  return text.find(part) != absl::string_view::npos;
}

TEST(Recording, Iova) {
  const Recording r = Read(
      "t.iova.csv.zst", Compress(std::string(kIova) + "5,3,a,0,fffff,1,fffff\n"
                                                      "6,3,a,0,0,4,fffff\n"
                                                      "7,1,a,0,ffff0,8,fffff\n"
                                                      "9,3,f,0,fffff,1,\n"));
  EXPECT_EQ(r.name, "t.iova.csv.zst");
  ASSERT_EQ(r.steps.size(), 3u);
  EXPECT_EQ(r.ranges, 2u);
  EXPECT_EQ(r.cpus, (std::vector<std::uint64_t>{3, 1}));
  EXPECT_EQ(r.last_limit, 0xfffffu);
  const Step& first = r.steps[0];
  EXPECT_TRUE(first.allocates);
  EXPECT_EQ(first.us, 5u);
  EXPECT_EQ(first.page, 0xfffffu);
  EXPECT_EQ(first.pages, 1u);
  EXPECT_EQ(first.limit, 0xfffffu);
  EXPECT_EQ(first.lane, 0u);
  EXPECT_EQ(r.holders[first.holder], "1 page");
  // The row between them failed when recorded.
  const Step& second = r.steps[1];
  EXPECT_EQ(second.us, 7u);
  EXPECT_EQ(second.page, 0xffff0u);
  EXPECT_EQ(second.lane, 1u);
  EXPECT_EQ(second.range, 1u);
  EXPECT_EQ(r.holders[second.holder], "5-8 pages");
  const Step& third = r.steps[2];
  EXPECT_FALSE(third.allocates);
  EXPECT_EQ(third.us, 9u);
  EXPECT_EQ(third.range, 0u);
  ASSERT_EQ(r.notes.size(), 1u);
  EXPECT_TRUE(Contains(r.notes[0], "failed when recorded")) << r.notes[0];
}

TEST(Recording, SizeClasses) {
  std::string rows = kIova;
  std::vector<std::string> expected;
  const std::pair<int, const char*> sizes[] = {{1, "1 page"},
                                               {2, "2 pages"},
                                               {3, "3-4 pages"},
                                               {4, "3-4 pages"},
                                               {5, "5-8 pages"},
                                               {16, "9-16 pages"},
                                               {17, "17-32 pages"},
                                               {32, "17-32 pages"},
                                               {33, "more than 32 pages"},
                                               {4096, "more than 32 pages"}};
  int row = 0;
  for (const auto& [pages, name] : sizes) {
    rows += "0,0,a,0," + std::to_string(++row) + "0000," +
            std::to_string(pages) + ",fffffff\n";
    expected.push_back(name);
  }
  const Recording r = Read("t.csv", rows);
  ASSERT_EQ(r.steps.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(r.holders[r.steps[i].holder], expected[i]);
  }
}

TEST(Recording, Domains) {
  const std::string text = std::string(kIova) +
                           "0,0,a,7,10,1,ff\n"
                           "1,0,a,9,10,1,ff\n"
                           "2,0,a,9,20,2,ff\n"
                           "3,0,f,7,10,1,\n"
                           "4,0,f,9,10,1,\n";
  const Recording busiest = Read("t.csv", text);
  ASSERT_EQ(busiest.steps.size(), 3u);
  EXPECT_EQ(busiest.ranges, 2u);
  EXPECT_EQ(busiest.steps[0].us, 1u);
  EXPECT_EQ(busiest.steps[2].range, 0u);
  ASSERT_EQ(busiest.notes.size(), 1u);
  EXPECT_EQ(busiest.notes[0], "domain 9 of 7, 9");
  const Recording other = Read("t.csv", text, 7);
  ASSERT_EQ(other.steps.size(), 2u);
  EXPECT_EQ(other.steps[1].us, 3u);
  const absl::Status none = Refusal(text, 8);
  EXPECT_EQ(none.code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(Contains(none.message(), "no domain 8 in it; it has 7, 9"))
      << none;
}

TEST(Recording, Dma) {
  const Recording r = Read("t.dma.csv", std::string(kDma) +
                                            "1,0,A,,8192,,\n"
                                            "2,0,M,5880,2048,2,880\n"
                                            "3,1,D,5880,16,2,\n"
                                            "4,1,G,,3,1,\n"
                                            "5,1,U,5880,2048,2,\n"
                                            "6,1,g,,3,1,\n"
                                            "7,1,F,,8192,,\n"
                                            "8,1,G,,1,0,\n");
  ASSERT_EQ(r.steps.size(), 7u);  // the sync is none
  EXPECT_EQ(r.ranges, 4u);
  EXPECT_EQ(r.last_limit, 0xfffffu);
  const auto holder = [&](std::size_t i) {
    return r.holders[r.steps[i].holder];
  };
  EXPECT_EQ(holder(0), "coherent");
  EXPECT_EQ(r.steps[0].pages, 2u);
  EXPECT_EQ(r.steps[0].page, 0u);
  EXPECT_EQ(holder(1), "map, from device");
  EXPECT_EQ(r.steps[1].pages, 2u);  // 880 + 800 is more than a page
  EXPECT_EQ(r.steps[1].page, 5u);
  EXPECT_EQ(r.steps[1].limit, 0xfffffu);
  EXPECT_EQ(holder(2), "list, to device");
  EXPECT_EQ(r.steps[2].pages, 4u);
  EXPECT_EQ(r.steps[2].us, 4u);
  EXPECT_FALSE(r.steps[3].allocates);
  EXPECT_EQ(r.steps[3].range, r.steps[1].range);
  EXPECT_EQ(r.steps[4].range, r.steps[2].range);
  EXPECT_EQ(r.steps[5].range, r.steps[0].range);
  EXPECT_EQ(holder(6), "list, both ways");
}

TEST(Recording, DmaWithAMissingUnmap) {
  const Recording r = Read("t.dma.csv", std::string(kDma) +
                                            "1,0,M,5000,4096,1,0\n"
                                            "8,0,M,5000,4096,2,0\n"
                                            "9,0,U,5000,4096,2,\n");
  ASSERT_EQ(r.steps.size(), 4u);
  EXPECT_FALSE(r.steps[1].allocates);
  EXPECT_EQ(r.steps[1].range, 0u);
  EXPECT_EQ(r.steps[1].us, 8u);
  EXPECT_EQ(r.steps[2].us, 8u);
  EXPECT_EQ(r.steps[2].page, 5u);
  EXPECT_EQ(r.steps[3].us, 9u);
  EXPECT_EQ(r.steps[3].range, 1u);
  ASSERT_EQ(r.notes.size(), 1u);
  EXPECT_TRUE(Contains(r.notes[0], "unmaps missing")) << r.notes[0];
}

TEST(Recording, DmaAddressesAbove32Bits) {
  const Recording r =
      Read("t.dma.csv", std::string(kDma) + "1,0,M,fffffff000,4096,1,0\n");
  EXPECT_EQ(r.last_limit, 0xfffffffu);
}

TEST(Recording, Refusals) {
  const absl::Status row = Refusal(std::string(kIova) +
                                   "0,0,a,0,10,1,ff\n"
                                   "1,0,f,0,11,1,\n");
  EXPECT_TRUE(Contains(row.message(), "bad.csv:3: impossible: free at page 11"))
      << row;
  const absl::Status iotlb = Refusal(
      "us,op,sid_or_dom,iova,slpte_or_am\n"
      "0,g,,,\n");
  EXPECT_TRUE(Contains(iotlb.message(), "has no allocations")) << iotlb;
  const absl::Status domain =
      Refusal(std::string(kDma) + "1,0,M,5000,4096,1,0\n", 0);
  EXPECT_TRUE(Contains(domain.message(), "no domains")) << domain;
  EXPECT_FALSE(Refusal("").ok());
  EXPECT_FALSE(Refusal(kIova).ok());
  EXPECT_FALSE(Refusal("a,b\n1,2\n").ok());
  EXPECT_FALSE(ReadRecording("/nowhere/t.csv", std::nullopt).ok());
}

}  // namespace
}  // namespace dmamap::address_map
