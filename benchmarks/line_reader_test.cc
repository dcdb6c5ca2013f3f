// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/line_reader.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "benchmarks/test_files.h"

namespace dmamap::bench {
namespace {

struct Read {
  std::vector<std::string> lines;
  std::string error;  // empty: none
};

Read ReadAll(const std::string& path) {
  Read read;
  LineReader reader(path);
  absl::string_view line;
  while (reader.Next(&line)) {
    read.lines.emplace_back(line);
    EXPECT_EQ(reader.line_number(), read.lines.size());
  }
  read.error = std::string(reader.status().message());
  return read;
}

// Lines of many lengths, more than any buffer of the reader.
std::string LongText() {
  std::mt19937 random(1);
  std::string text;
  while (text.size() < 1'000'000) {
    for (std::size_t n = random() % 80; n != 0; --n) {
      text += static_cast<char>('a' + random() % 26);
    }
    text += '\n';
  }
  return text;
}

std::string Join(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + '\n';
  return text;
}

TEST(LineReader, PlainLines) {
  const Read read = ReadAll(WriteTestFile("t", "one\n\nthree\n"));
  EXPECT_EQ(read.lines, (std::vector<std::string>{"one", "", "three"}));
  EXPECT_EQ(read.error, "");
}

TEST(LineReader, EmptyFileHasNoLines) {
  const Read read = ReadAll(WriteTestFile("t", ""));
  EXPECT_TRUE(read.lines.empty());
  EXPECT_EQ(read.error, "");
}

TEST(LineReader, CompressedIsToldByItsFirstBytes) {
  const std::string text = LongText();
  const Read plain = ReadAll(WriteTestFile("t.zst", text));
  EXPECT_EQ(Join(plain.lines), text);
  EXPECT_EQ(plain.error, "");
  const Read compressed = ReadAll(WriteTestFile("t.csv", Compress(text)));
  EXPECT_EQ(Join(compressed.lines), text);
  EXPECT_EQ(compressed.error, "");
}

TEST(LineReader, HighlyCompressibleTextLosesNothing) {
  std::string text;
  for (int i = 0; i < 300'000; ++i) text += "0,0,a,0,1,1,fffff\n";
  const Read read = ReadAll(WriteTestFile("t", Compress(text)));
  EXPECT_EQ(read.error, "");
  EXPECT_EQ(read.lines.size(), 300'000u);
}

TEST(LineReader, SeveralFrames) {
  const Read read = ReadAll(WriteTestFile(
      "t", Compress("one\ntw") + Compress("") + Compress("o\nthree\n")));
  EXPECT_EQ(read.lines, (std::vector<std::string>{"one", "two", "three"}));
  EXPECT_EQ(read.error, "");
}

TEST(LineReader, CutLastLine) {
  const std::string path = WriteTestFile("t", "one\ntwo");
  const Read read = ReadAll(path);
  EXPECT_EQ(read.lines, std::vector<std::string>{"one"});
  EXPECT_EQ(read.error,
            path + ":2: the last line is cut off (no newline at its end)");
}

TEST(LineReader, LongLine) {
  const std::string fits(LineReader::kMaxLine, 'x');
  EXPECT_EQ(ReadAll(WriteTestFile("fits", fits + "\n")).error, "");
  const std::string path = WriteTestFile("t", "one\n" + fits + "x\n");
  const Read read = ReadAll(path);
  EXPECT_EQ(read.lines.size(), 1u);
  EXPECT_EQ(read.error, path + ":2: line of more than 512 bytes");
  // Also when no newline ever comes: the reader does not take it all in.
  EXPECT_NE(ReadAll(WriteTestFile("u", std::string(5'000'000, 'x'))).error, "");
}

TEST(LineReader, MissingFileAndFolder) {
  EXPECT_EQ(ReadAll("/nowhere/t").error,
            "/nowhere/t: cannot open: No such file or directory");
  const std::string folder = ::testing::TempDir();
  EXPECT_EQ(ReadAll(folder).error, folder + ":1: cannot read: Is a directory");
}

// A compressed stream that is cut anywhere is an error, and what came before
// it is a prefix of the text.
TEST(LineReader, CutStreamAnywhere) {
  std::string text;
  std::mt19937 random(2);
  for (int i = 0; i < 40; ++i) text += std::to_string(random()) + "\n";
  const std::string compressed = Compress(text);
  for (std::size_t n = 4; n < compressed.size(); ++n) {
    const std::string path = WriteTestFile("t", compressed.substr(0, n));
    const Read read = ReadAll(path);
    EXPECT_NE(read.error, "") << n;
    EXPECT_EQ(read.error.rfind(path + ":", 0), 0u) << read.error;
    EXPECT_EQ(text.rfind(Join(read.lines), 0), 0u) << n;
  }
}

TEST(LineReader, DamagedStream) {
  std::string compressed = Compress(LongText());
  compressed.replace(compressed.size() / 2, 64, std::string(64, '\xff'));
  const std::string path = WriteTestFile("t", compressed);
  const Read read = ReadAll(path);
  // Some of it may come out, wrong, before the checksum tells.
  const std::string place =
      path + ":" + std::to_string(read.lines.size() + 1) + ": ";
  EXPECT_EQ(read.error.rfind(place, 0), 0u) << read.error;
}

}  // namespace
}  // namespace dmamap::bench
