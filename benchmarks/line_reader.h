// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_LINE_READER_H_
#define DMAMAP_BENCHMARKS_LINE_READER_H_

// Lines of a text file, plain or zstd-compressed (told by its first bytes, not
// by its name), streamed: the file is never in memory as a whole.
//
//   LineReader reader(path);
//   absl::string_view line;
//   while (reader.Next(&line)) { ... reader.line_number() ... }
//   if (!reader.status().ok()) ...   // "path:17: what is wrong"
//
// Strict, because a cut-off recording must not pass for a shorter one: the last
// line ends with a newline, a compressed stream ends with its last frame, a
// line has at most kMaxLine bytes.

#include <zstd.h>

#include <cstddef>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace dmamap::bench {

class LineReader {
 public:
  static constexpr std::size_t kMaxLine = 512;  // bytes, without the newline

  explicit LineReader(const std::string& path);

  // The next line without its newline, valid until the next call. False at the
  // end of the file and on an error: status() tells which.
  bool Next(absl::string_view* line);

  // Lines given out so far: the number of the last one, counted from 1.
  std::size_t line_number() const { return line_number_; }
  const absl::Status& status() const { return status_; }

  // An error about the line given out last: "path:line: message".
  absl::Status ErrorHere(absl::string_view message) const;

 private:
  struct CloseFile {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  struct FreeStream {
    void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
  };

  absl::Status ErrorAt(std::size_t line, absl::string_view message) const;
  // Appends what the file holds next to text_; false when nothing is left or
  // on an error.
  bool Fill();
  bool FillPlain();
  bool FillCompressed();
  bool ReadInput();  // false at the end of the file and on an error
  bool Fail(absl::string_view message);

  std::string path_;
  std::unique_ptr<std::FILE, CloseFile> file_;
  std::unique_ptr<ZSTD_DStream, FreeStream> stream_;  // null: plain text
  std::vector<char> input_;                           // as the file has it
  std::size_t input_size_ = 0;
  std::size_t input_used_ = 0;
  bool frame_open_ = false;      // inside a zstd frame
  bool output_pending_ = false;  // the decompressor may hold more output
  std::string text_;  // decompressed, not given out yet from used_ on
  std::size_t used_ = 0;
  std::size_t line_number_ = 0;
  absl::Status status_;
};

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_LINE_READER_H_
