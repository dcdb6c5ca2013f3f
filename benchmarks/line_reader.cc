// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/line_reader.h"

#include <cerrno>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace dmamap::bench {
namespace {

constexpr std::size_t kInputBytes = std::size_t{1} << 17;
// A zstd frame begins with 0xFD2FB528, little-endian (RFC 8878, 3.1.1).
constexpr absl::string_view kZstdMagic = "\x28\xb5\x2f\xfd";

}  // namespace

LineReader::LineReader(const std::string& path)
    : path_(path), file_(std::fopen(path.c_str(), "rb")), input_(kInputBytes) {
  if (file_ == nullptr) {
    status_ = absl::NotFoundError(
        absl::StrCat(path, ": cannot open: ", std::strerror(errno)));
    return;
  }
  if (!ReadInput()) return;
  if (absl::StartsWith({input_.data(), input_size_}, kZstdMagic)) {
    stream_.reset(ZSTD_createDStream());
    if (stream_ == nullptr) Fail("no memory for the decompressor");
  }
}

bool LineReader::Next(absl::string_view* line) {
  std::size_t searched = used_;
  for (;;) {
    const std::size_t newline = text_.find('\n', searched);
    const std::size_t end =
        newline == std::string::npos ? text_.size() : newline;
    if (end - used_ > kMaxLine) {
      return Fail(absl::StrCat("line of more than ", kMaxLine, " bytes"));
    }
    if (newline != std::string::npos) {
      *line = absl::string_view(text_).substr(used_, newline - used_);
      used_ = newline + 1;
      ++line_number_;
      return true;
    }
    text_.erase(0, used_);
    used_ = 0;
    searched = text_.size();
    if (Fill()) continue;
    if (status_.ok() && !text_.empty()) {
      Fail("the last line is cut off (no newline at its end)");
    }
    return false;
  }
}

absl::Status LineReader::ErrorHere(absl::string_view message) const {
  return ErrorAt(line_number_, message);
}

absl::Status LineReader::ErrorAt(std::size_t line,
                                 absl::string_view message) const {
  return absl::InvalidArgumentError(
      absl::StrCat(path_, ":", line, ": ", message));
}

bool LineReader::Fill() {
  if (!status_.ok()) return false;
  return stream_ == nullptr ? FillPlain() : FillCompressed();
}

bool LineReader::FillPlain() {
  if (input_used_ == input_size_ && !ReadInput()) return false;
  text_.append(input_.data() + input_used_, input_size_ - input_used_);
  input_used_ = input_size_;
  return true;
}

bool LineReader::FillCompressed() {
  const std::size_t old_size = text_.size();
  const std::size_t room = ZSTD_DStreamOutSize();
  text_.resize(old_size + room);
  ZSTD_outBuffer out = {text_.data() + old_size, room, 0};
  bool more = true;
  while (out.pos == 0 && more) {
    if (input_used_ == input_size_ && !output_pending_ && !ReadInput()) {
      more = false;
      if (status_.ok() && frame_open_) Fail("the compressed stream ends early");
      break;
    }
    ZSTD_inBuffer in = {input_.data(), input_size_, input_used_};
    const std::size_t left = ZSTD_decompressStream(stream_.get(), &out, &in);
    input_used_ = in.pos;
    if (ZSTD_isError(left) != 0) {
      more =
          Fail(absl::StrCat("bad compressed data: ", ZSTD_getErrorName(left)));
      break;
    }
    frame_open_ = left != 0;
    output_pending_ = out.pos == out.size;  // it may hold back more
  }
  text_.resize(old_size + (status_.ok() ? out.pos : 0));
  return more && status_.ok();
}

bool LineReader::ReadInput() {
  input_used_ = 0;
  input_size_ = std::fread(input_.data(), 1, input_.size(), file_.get());
  if (input_size_ == 0 && std::ferror(file_.get()) != 0) {
    return Fail(absl::StrCat("cannot read: ", std::strerror(errno)));
  }
  return input_size_ != 0;
}

bool LineReader::Fail(absl::string_view message) {
  // The line that was being read, not the one given out last.
  status_ = ErrorAt(line_number_ + 1, message);
  return false;
}

}  // namespace dmamap::bench
