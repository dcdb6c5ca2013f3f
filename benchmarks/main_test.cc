// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The program as a user runs it: options, output, exit status.

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include "benchmarks/test_files.h"
#include "nlohmann/json.hpp"

namespace dmamap::bench {
namespace {

struct Ran {
  int status = -1;
  std::string out;
  std::string err;
};

std::string ReadFile(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

// Bazel runs tests in the root of their runfiles.
Ran RunProgram(const std::string& arguments) {
  const char* const given = std::getenv("DMAMAP_BENCHMARKS");
  const std::string program =
      given != nullptr ? given : "benchmarks/benchmarks";
  const std::string out = WriteTestFile("out", "");
  const std::string err = WriteTestFile("err", "");
  const int raw = std::system(
      (program + " " + arguments + " >" + out + " 2>" + err).c_str());
  return {WIFEXITED(raw) ? WEXITSTATUS(raw) : -1, ReadFile(out), ReadFile(err)};
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

constexpr const char* kGoodTrace =
    "us,cpu,op,addr,size,dir,off\n"
    "0,0,M,1040,100,1,40\n"
    "1,1,U,1040,100,1,\n";

TEST(Main, Help) {
  const Ran ran = RunProgram("--help");
  EXPECT_EQ(ran.status, 0);
  for (const char* option :
       {"--json", "--filter", "--quick", "--trace", "--repetitions"}) {
    EXPECT_TRUE(Contains(ran.out, option)) << option;
  }
}

TEST(Main, BadOptions) {
  EXPECT_EQ(RunProgram("--no_such_option").status, 1);
  EXPECT_EQ(RunProgram("--quick something").status, 1);
  EXPECT_EQ(RunProgram("--repetitions=x").status, 1);
  EXPECT_EQ(RunProgram("--repetitions=-1").status, 1);
  EXPECT_EQ(RunProgram("--repetitions=0").status, 1);
  const Ran regex = RunProgram("--quick --filter='('");
  EXPECT_EQ(regex.status, 1);
  EXPECT_TRUE(Contains(regex.err, "bad --filter")) << regex.err;
  const Ran none = RunProgram("--filter=no_such_row --trace=" +
                              WriteTestFile("mine.dma.csv", kGoodTrace));
  EXPECT_EQ(none.status, 1);
  EXPECT_TRUE(Contains(none.err, "no row matches")) << none.err;
  const Ran folder = RunProgram("--traces=/nowhere");
  EXPECT_EQ(folder.status, 1);
  EXPECT_TRUE(Contains(folder.err, "/nowhere")) << folder.err;
}

TEST(Main, BadTraceIsNamedWithItsLine) {
  const std::string path = WriteTestFile(
      "bad.dma.csv", std::string(kGoodTrace) + "2,0,U,1040,100,1,\n");
  const Ran ran = RunProgram("--trace=" + path);
  EXPECT_EQ(ran.status, 1);
  EXPECT_TRUE(Contains(ran.err, "benchmarks: " + path +
                                    ":4: impossible: unmap of 1040, where no "
                                    "live mapping begins\n"))
      << ran.err;
  EXPECT_EQ(ran.out, "");
  EXPECT_EQ(RunProgram("--trace=" + WriteTestFile("empty", "")).status, 1);
  EXPECT_EQ(RunProgram("--trace=/nowhere/t.csv").status, 1);
}

TEST(Main, UsersTrace) {
  const std::string path = WriteTestFile("mine.dma.csv", kGoodTrace);
  const Ran ran = RunProgram("--repetitions=2 --trace=" + path);
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_TRUE(Contains(ran.out, "trace_mine/dmamap")) << ran.out;
  EXPECT_FALSE(Contains(ran.out, "e100")) << ran.out;
  EXPECT_TRUE(Contains(ran.err, "[8/8] domain/trace_mine/dmamap")) << ran.err;
}

TEST(Main, CannotWriteJson) {
  const std::string path = WriteTestFile("mine.dma.csv", kGoodTrace);
  const Ran ran = RunProgram("--json=/nowhere/x.json --trace=" + path);
  EXPECT_EQ(ran.status, 1);
  EXPECT_TRUE(Contains(ran.err, "/nowhere/x.json")) << ran.err;
}

// Each row once over the recorded traces, and all that the JSON promises.
TEST(Main, QuickRun) {
  const std::string path = WriteTestFile("x.json", "");
  // Of iotlb/ the smallest, for the time that an unoptimised build takes.
  const Ran ran = RunProgram(
      "--quick --filter='^(iova|domain|nicring|iommu|bounce)/"
      "|^iotlb/(trace|.*_64/|hint/dmamap)' --json=" +
      path);
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_FALSE(Contains(ran.err, "checks that do not hold")) << ran.err;
  const auto json = nlohmann::json::parse(ReadFile(path));
  for (const char* key : {"machine", "compiler", "commit", "date"}) {
    EXPECT_FALSE(json.at("context").at(key).get<std::string>().empty()) << key;
  }
  std::set<std::string> names;
  for (const auto& row : json.at("benchmarks")) {
    names.insert(row.at("name").get<std::string>());
    EXPECT_EQ(row.at("time_unit"), "ns");
    // Single operations are less the clock's time, which may be all of it.
    const double least = Contains(row.at("name"), "frag32") ? 0 : 1e-3;
    EXPECT_GE(row.at("cpu_time").get<double>(), least) << row;
  }
  for (const char* name : {"iova/trace_e100-rx-strict/dmamap",
                           "iova/trace_e100-tx-lazy/dmamap",
                           "iova/trace_e1000e-tcprx-lazy/dmamap",
                           "iova/trace_nvme-mix-lazy/dmamap",
                           "iova/trace_vnet-mix-strict/dmamap",
                           "domain/trace_e100-rx-strict/dmamap",
                           "domain/trace_nvme-mix-lazy/dmamap",
                           "domain/map_unmap_64B/dmamap",
                           "domain/map_unmap_1500B_live1024/dmamap",
                           "domain/map_unmap_4096B_live65536/dmamap",
                           "domain/map_unmap_64B_2t/dmamap",
                           "domain/map_unmap_1500B_touched/dmamap",
                           "domain/copy_to_1500B/dmamap",
                           "domain/copy_to_64B/floor-memcpy",
                           "domain/copy_from_65536B/dmamap",
                           "domain/copy_from_16384B/floor-memcpy",
                           "domain/checker_1500B/dmamap",
                           "domain/coherent_64B/dmamap",
                           "domain/pooled_1500B/dmamap-direct",
                           "bounce/pages_64KiB/memfd-keep",
                           "bounce/copy_cold_read_4096B/memcpy",
                           "iommu/map_4k/dmamap",
                           "iommu/map_4k_merge/dmamap",
                           "iommu/invalidations_deferred/dmamap",
                           "iommu/unmap_4k/floor-radix",
                           "domain/copy_or_map_16384B/dmamap-automatic",
                           "iotlb/trace_e100-rx-strict/dmamap",
                           "iotlb/trace_nvme-mix-lazy/dmamap",
                           "nicring/e100_imix/dmamap",
                           "iotlb/lookup_64/dmamap",
                           "iotlb/lookup_2t_64/dmamap",
                           "iotlb/update_64/dmamap-tree",
                           "iotlb/mix95_2t_64/floor-radix",
                           "iotlb/walk_64/std-map",
                           "iotlb/hint/dmamap",
                           "iova/pair_1t/dmamap",
                           "iova/pair_1t/dmamap-rseq",
                           "iova/pair_1t/floor-tls-stack",
                           "iova/prodcons/dmamap",
                           "iova/mixed/dmamap",
                           "iova/mix32/dmamap",
                           "iova/fresh/dmamap",
                           "iova/no_cache_1000/dmamap-store",
                           "iova/large_live_1000000/dmamap",
                           "iova/frag32_refuse/dmamap",
                           "iova/frag32_low/dmamap",
                           "iova/pair_1t/dmamap-unchecked",
                           "iova/locality/dmamap-pool",
                           "iova/memory/dmamap",
                           "iova/ageing/dmamap"}) {
    EXPECT_EQ(names.count(name), 1u) << name;
  }
  ASSERT_GT(json.at("verdicts").size(), 50u);
  for (const auto& verdict : json.at("verdicts")) {
    EXPECT_TRUE(verdict.at("name").is_string());
    EXPECT_TRUE(verdict.at("ours").is_number());
    EXPECT_TRUE(verdict.at("holds").is_boolean());
    // A bound on time: a test build may miss it.
    if (verdict.at("must") != "0") continue;
    EXPECT_TRUE(verdict.at("peer").is_null());
    EXPECT_TRUE(verdict.at("ratio").is_null());
    EXPECT_EQ(verdict.at("must"), "0");
    EXPECT_EQ(verdict.at("holds"), true) << verdict;
  }
}

TEST(Main, FilterAndRepetitions) {
  const std::string path = WriteTestFile("x.json", "");
  const Ran ran = RunProgram(
      "--quick --repetitions=3 --filter='^iova/.*nvme.*/dmamap$' --json=" +
      path);
  ASSERT_EQ(ran.status, 0) << ran.err;
  const auto json = nlohmann::json::parse(ReadFile(path));
  std::multiset<std::string> names;
  bool median = false;
  for (const auto& row : json.at("benchmarks")) {
    names.insert(row.at("name").get<std::string>());
    EXPECT_EQ(row.at("run_name"), "iova/trace_nvme-mix-lazy/dmamap");
    if (row.value("aggregate_name", "") == "median") {
      median = true;
      EXPECT_GT(row.at("cpu_time").get<double>(), 0);
    }
  }
  EXPECT_EQ(names.count("iova/trace_nvme-mix-lazy/dmamap"), 3u);
  EXPECT_EQ(names.count("iova/trace_nvme-mix-lazy/dmamap_median"), 1u);
  EXPECT_TRUE(median);
}

}  // namespace
}  // namespace dmamap::bench
