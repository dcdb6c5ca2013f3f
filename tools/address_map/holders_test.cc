// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include <gtest/gtest.h>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "benchmarks/options.h"
#include "benchmarks/test_files.h"
#include "tools/address_map/recording.h"

namespace dmamap::address_map {
namespace {

using bench::WriteTestFile;

Recording Read(const std::string& path) {
  const auto recording = ReadRecording(path, std::nullopt);
  EXPECT_TRUE(recording.ok()) << recording.status();
  return recording.ok() ? *recording : Recording();
}
Recording Iova(const std::string& rows) {
  return Read(WriteTestFile(
      "t.iova.csv", absl::StrCat("us,cpu,op,dom,pfn,pages,limit_pfn\n", rows)));
}
Recording Dma(const std::string& rows) {
  return Read(WriteTestFile(
      "t.dma.csv", absl::StrCat("us,cpu,op,addr,size,dir,off\n", rows)));
}
std::vector<std::string> HoldersOf(const Recording& recording) {
  std::vector<std::string> holders;
  for (const Step& step : recording.steps) {
    holders.push_back(recording.holders[step.holder]);
  }
  return holders;
}

constexpr const char* kIovaRows =
    "0,4,a,0,f0,1,ff\n"
    "1,4,a,0,ef,1,ff\n"
    "2,7,a,0,e0,4,ff\n"
    "3,4,f,0,ef,1,\n"
    "4,7,a,0,ef,1,ff\n";

TEST(TakeHolders, ByCpuAndOrder) {
  Recording iova = Iova(kIovaRows);
  // In an order and with CPUs numbered other than in the .iova trace.
  const Recording dma =
      Dma("0,7,G,,4,1,\n"
          "1,4,A,,100,,\n"
          "2,4,M,ef000,100,2,0\n"
          "3,4,U,ef000,100,2,\n"
          "4,7,M,ef010,100,1,10\n");
  ASSERT_TRUE(TakeHolders(dma, iova).ok());
  EXPECT_EQ(HoldersOf(iova),
            (std::vector<std::string>{"coherent", "map, from device",
                                      "list, to device", "map, from device",
                                      "map, to device"}));
  EXPECT_EQ(iova.notes, std::vector<std::string>{"holders from t.dma.csv"});
}

TEST(TakeHolders, ACallThatMovedToAnotherCpu) {
  Recording iova = Iova(kIovaRows);
  const Recording dma =
      Dma("0,7,A,,100,,\n"  // served on CPU 4
          "1,7,G,,4,1,\n"
          "2,4,M,ef000,100,2,0\n"
          "3,4,U,ef000,100,2,\n"
          "4,7,M,ef010,100,1,10\n");
  ASSERT_TRUE(TakeHolders(dma, iova).ok());
  EXPECT_EQ(HoldersOf(iova)[0], "coherent");
  EXPECT_EQ(HoldersOf(iova)[1], "map, from device");
}

TEST(TakeHolders, AnotherRunIsRefused) {
  Recording iova = Iova(kIovaRows);
  const std::vector<std::string> before = HoldersOf(iova);
  const absl::Status address = TakeHolders(Dma("0,4,A,,100,,\n"
                                               "1,4,M,ee000,100,2,0\n"),
                                           iova);
  EXPECT_TRUE(absl::StrContains(address.message(),
                                "t.iova.csv: nothing in t.dma.csv asks for "
                                "page ef, allocated at step 1"))
      << address;
  EXPECT_FALSE(TakeHolders(Dma("0,4,A,,100,,\n"), iova).ok());  // too short
  EXPECT_EQ(HoldersOf(iova), before);
  EXPECT_TRUE(iova.notes.empty());
}

TEST(TakeHolders, WrongKinds) {
  Recording iova = Iova(kIovaRows);
  Recording dma = Dma("0,4,A,,100,,\n");
  EXPECT_FALSE(TakeHolders(iova, dma).ok());
  EXPECT_FALSE(TakeHolders(Recording(iova), iova).ok());
  EXPECT_FALSE(TakeHolders(Recording(dma), dma).ok());
}

TEST(TakeHolders, RecordedTraces) {
  const auto folder = bench::FindTraceFolder("address_map");
  ASSERT_TRUE(folder.ok()) << folder.status();
  for (const char* name :
       {"e100-rx-strict", "e100-tx-lazy", "e1000e-tcprx-lazy", "nvme-mix-lazy",
        "vnet-mix-strict"}) {
    const std::string path = absl::StrCat(*folder, "/", name);
    Recording iova = Read(path + ".iova.csv.zst");
    const Recording dma = Read(path + ".dma.csv.zst");
    EXPECT_EQ(iova.ranges, dma.ranges) << name;
    const absl::Status taken = TakeHolders(dma, iova);
    EXPECT_TRUE(taken.ok()) << taken;
    std::vector<std::size_t> iova_ranges(dma.holders.size());
    std::vector<std::size_t> dma_ranges(dma.holders.size());
    for (const Step& s : iova.steps) iova_ranges[s.holder] += s.allocates;
    for (const Step& s : dma.steps) dma_ranges[s.holder] += s.allocates;
    EXPECT_EQ(iova_ranges, dma_ranges) << name;
  }
}

}  // namespace
}  // namespace dmamap::address_map
