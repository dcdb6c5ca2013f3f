// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_FUZZ_BYTE_SOURCE_H_
#define DMAMAP_TESTING_FUZZ_BYTE_SOURCE_H_

// ByteSource: the choices of a fuzzed run, taken from the fuzzer's bytes one
// after the other; zeros when there are none left. Require: what must hold.

#include <cstddef>
#include <cstdint>
#include <cstdio>

#include "dma/version.h"

namespace dmamap::inline v0 {
namespace fuzz {

class ByteSource {
 public:
  ByteSource(const std::uint8_t* data, std::size_t size)
      : next_(data), end_(data + size) {}

  bool empty() const { return next_ == end_; }
  std::uint8_t Byte() { return empty() ? std::uint8_t{0} : *next_++; }
  // 0 to n - 1. REQUIRES: 1 <= n <= 256.
  std::uint32_t Below(std::uint32_t n) { return Byte() % n; }
  bool Coin() { return (Byte() & 1) != 0; }
  // Two bytes, in both halves of the word: a device's random number. Short, so
  // that an input of a few hundred bytes is a long run.
  std::uint32_t operator()() {
    const std::uint32_t low = Byte();
    const std::uint32_t word = low | std::uint32_t{Byte()} << 8;
    return word << 16 | word;
  }

 private:
  const std::uint8_t* next_;
  const std::uint8_t* end_;
};

// Ends the process, so that a fuzzer keeps the input.
inline void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "fuzz: broken: %s\n", what);
  __builtin_trap();
}

}  // namespace fuzz
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_FUZZ_BYTE_SOURCE_H_
