// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The program as a user runs it: options, output, exit status.

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <variant>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "benchmarks/options.h"
#include "benchmarks/row_reader.h"
#include "benchmarks/test_files.h"
#include "benchmarks/trace_reader.h"
#include "tools/address_map/picture.h"
#include "tools/address_map/xml_for_test.h"

namespace dmamap::address_map {
namespace {

using absl::StrContains;
using bench::WriteTestFile;

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
  const char* const given = std::getenv("DMAMAP_ADDRESS_MAP");
  const std::string program =
      given != nullptr ? given : "tools/address_map/address_map";
  const std::string out = WriteTestFile("out", "");
  const std::string err = WriteTestFile("err", "");
  const int raw = std::system(
      (program + " " + arguments + " >" + out + " 2>" + err).c_str());
  return {WIFEXITED(raw) ? WEXITSTATUS(raw) : -1, ReadFile(out), ReadFile(err)};
}

// A name in the test's own folder where nothing is.
std::string NoFile(const std::string& name) {
  const std::string path = WriteTestFile(name, "");
  std::filesystem::remove(path);
  return path;
}

constexpr const char* kTrace =
    "us,cpu,op,dom,pfn,pages,limit_pfn\n"
    "0,0,a,0,ffffe,2,fffff\n"
    "5,0,a,0,bfe00,512,fffff\n"
    "9,0,f,0,ffffe,2,\n";

TEST(Main, Help) {
  const Ran ran = RunProgram("--help");
  EXPECT_EQ(ran.status, 0);
  for (const char* option : {"--out", "--dma", "--allocator", "--time",
                             "--domain", "--width", "--height"}) {
    EXPECT_TRUE(StrContains(ran.out, option)) << option;
  }
}

TEST(Main, RecordedAddresses) {
  const std::string trace = WriteTestFile("t.iova.csv", kTrace);
  const std::string svg = NoFile("t.svg");
  const Ran ran = RunProgram(absl::StrCat(
      trace, " --allocator=recorded --width=300 --height=100 --out=", svg));
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_TRUE(absl::StartsWith(
      ran.out,
      "2 ranges, at most 2.01 MiB live; 2 regions of 2 MiB touched, "
      "at most 2 in use at once, "))
      << ran.out;
  const std::string text = ReadFile(svg);
  EXPECT_TRUE(
      StrContains(ran.out, absl::StrCat(svg, ": ", text.size(), " bytes\n")));
  EXPECT_EQ(XmlError(text), "");
  EXPECT_TRUE(StrContains(text, "<title>0xbfe00000 - 0xbfffffff\n512 pages"));
  EXPECT_TRUE(StrContains(text, "<title>0xffffe000 - 0xffffffff\n2 pages"));
  EXPECT_TRUE(StrContains(text, ">0xffe00000</text>"));
}

TEST(Main, DmamapsAddressesAndTime) {
  const std::string trace = WriteTestFile("t.iova.csv", kTrace);
  const std::string svg = NoFile("t.svg");
  const Ran ran =
      RunProgram(absl::StrCat(trace, " --time=us --domain=0 --out=", svg));
  EXPECT_EQ(ran.status, 0) << ran.err;
  const std::string text = ReadFile(svg);
  EXPECT_EQ(XmlError(text), "");
  EXPECT_TRUE(StrContains(text, "dmamap's allocator"));
  EXPECT_TRUE(StrContains(text, "time since the first event"));
}

TEST(Main, HoldersFromTheDmaTrace) {
  const std::string trace = WriteTestFile("t.iova.csv", kTrace);
  const std::string dma = WriteTestFile("t.dma.csv",
                                        "us,cpu,op,addr,size,dir,off\n"
                                        "0,0,M,ffffe000,8192,2,0\n"
                                        "5,0,A,,2097152,,\n");
  const std::string svg = NoFile("t.svg");
  const Ran ran =
      RunProgram(absl::StrCat(trace, " --dma=", dma, " --out=", svg));
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_TRUE(StrContains(ReadFile(svg), ">map, from device (1)</text>"));
  EXPECT_TRUE(StrContains(ReadFile(svg), ">coherent (1)</text>"));
  std::filesystem::remove(svg);
  const Ran other =
      RunProgram(absl::StrCat(trace, " --dma=", trace, " --out=", svg));
  EXPECT_EQ(other.status, 1);
  EXPECT_FALSE(std::filesystem::exists(svg));
}

TEST(Main, NameOfThePicture) {
  const std::string trace = WriteTestFile("t.iova.csv", kTrace);
  const std::filesystem::path folder =
      std::filesystem::path(trace).parent_path();
  ASSERT_EQ(setenv("BUILD_WORKING_DIRECTORY", folder.c_str(), 1), 0);
  const Ran ran = RunProgram("t.iova.csv");
  unsetenv("BUILD_WORKING_DIRECTORY");
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_TRUE(std::filesystem::exists(folder / "t.iova.svg")) << ran.out;
}

TEST(Main, BadTraceIsNamedWithItsLineAndLeavesNoFile) {
  const std::string trace =
      WriteTestFile("bad.iova.csv", absl::StrCat(kTrace, "10,0,f,0,1,1,\n"));
  const std::string svg = NoFile("bad.svg");
  const Ran ran = RunProgram(absl::StrCat(trace, " --out=", svg));
  EXPECT_EQ(ran.status, 1);
  EXPECT_EQ(ran.out, "");
  EXPECT_TRUE(absl::StartsWith(
      ran.err, absl::StrCat("address_map: ", trace, ":5: impossible: free")))
      << ran.err;
  EXPECT_FALSE(std::filesystem::exists(svg));
}

TEST(Main, BadOptionsLeaveNoFile) {
  const std::string trace = WriteTestFile("t.iova.csv", kTrace);
  const std::string svg = NoFile("t.svg");
  for (const char* bad :
       {"--no-such-option", "--allocator=linux", "--time=days", "--width=99",
        "--width=nan", "--width=x", "--height=5000", "--domain=1",
        "--domain=-1", "another.csv"}) {
    const Ran ran = RunProgram(absl::StrCat(trace, " --out=", svg, " ", bad));
    EXPECT_EQ(ran.status, 1) << bad;
    EXPECT_NE(ran.err, "") << bad;
    EXPECT_FALSE(std::filesystem::exists(svg)) << bad;
  }
  EXPECT_EQ(RunProgram("").status, 1);
  EXPECT_EQ(RunProgram("/nowhere/t.csv").status, 1);
  const Ran out = RunProgram(trace + " --out=/nowhere/t.svg");
  EXPECT_EQ(out.status, 1);
  EXPECT_TRUE(StrContains(out.err, "/nowhere/t.svg: cannot open")) << out.err;
}

// The reader of an .iova trace counts regions too.
void ExpectReadersRegions(const std::string& file, const Ran& ran) {
  const auto trace = bench::ReadTrace(file);
  ASSERT_TRUE(trace.ok()) << trace.status();
  const auto* iova = std::get_if<bench::IovaTrace>(&trace->content);
  if (iova == nullptr) return;
  EXPECT_TRUE(StrContains(
      ran.out, absl::StrCat("; ", iova->recorded_regions, " region")))
      << ran.out;
}

TEST(Main, RecordedTraces) {
  const auto folder = bench::FindTraceFolder("address_map");
  ASSERT_TRUE(folder.ok()) << folder.status();
  const auto files = bench::FindTraces(*folder);
  ASSERT_TRUE(files.ok()) << files.status();
  int drawn = 0;
  for (const std::string& file : *files) {
    const bool iotlb =
        bench::RowReader(file).header() == bench::IotlbTrace::kHeader;
    for (const char* addresses : {"dmamap", "recorded"}) {
      const std::string svg = NoFile("t.svg");
      const Ran ran = RunProgram(
          absl::StrCat(file, " --allocator=", addresses, " --out=", svg));
      EXPECT_EQ(ran.status, iotlb ? 1 : 0) << file << ran.err;
      EXPECT_EQ(std::filesystem::exists(svg), !iotlb);
      if (iotlb) continue;
      const std::string text = ReadFile(svg);
      EXPECT_EQ(XmlError(text), "") << file;
      EXPECT_LT(text.size(), kMostBytes) << file;
      if (addresses == std::string("recorded")) ExpectReadersRegions(file, ran);
      ++drawn;
    }
  }
  EXPECT_EQ(drawn, 20);
}

}  // namespace
}  // namespace dmamap::address_map
