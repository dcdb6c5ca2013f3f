// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_TEST_FILES_H_
#define DMAMAP_BENCHMARKS_TEST_FILES_H_

// Files for the tests of the readers.

#include <gtest/gtest.h>
#include <zstd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace dmamap::bench {

// Writes a file into the test's own folder; its path.
inline std::string WriteTestFile(const std::string& name,
                                 const std::string& content) {
  const ::testing::TestInfo* const test =
      ::testing::UnitTest::GetInstance()->current_test_info();
  const std::filesystem::path folder =
      std::filesystem::path(::testing::TempDir()) /
      (std::string(test->test_suite_name()) + "." + test->name());
  std::filesystem::create_directories(folder);
  const std::string path = (folder / name).string();
  // A new file: ext4 writes a truncated one to the disk when it is closed.
  std::filesystem::remove(path);
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

// One zstd frame with a checksum, as the zstd program makes it.
inline std::string Compress(const std::string& content) {
  std::string out(ZSTD_compressBound(content.size()), '\0');
  ZSTD_CCtx* const context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
  out.resize(ZSTD_compress2(context, out.data(), out.size(), content.data(),
                            content.size()));
  ZSTD_freeCCtx(context);
  return out;
}

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_TEST_FILES_H_
