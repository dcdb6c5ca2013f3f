// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Runs a number of steps of a workload on a StandardAllocator and nothing else,
// for tools/check_instructions.py, which has callgrind count the instructions.
//
// Usage: iova_fast_path WORKLOAD STEPS
//   pair_1t    a step allocates a page and frees it
//   ring1024   1024 pages in flight; a step frees the oldest and allocates
//              a new one
//   longer     pair_1t with a second pair in each fourth step: a fast path that
//              has grown by a quarter, as the check has to find it
//
// The first two are what benchmarks/peers/iova_bodies.h calls by these names,
// without the harness. Exit status 1 if a call fails, 2 for a bad argument.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "dma/address.h"
#include "dma/result.h"
#include "iova/standard.h"

namespace dmamap {
namespace {

// The value is used, as far as the compiler knows, and could be any.
inline void Keep(std::uint64_t& value) {
  asm volatile("" : "+r"(value) : : "memory");
}

inline bool Pair(StandardAllocator& iova) {
  const Result<Iova> page = iova.Allocate(1);
  if (!page.ok()) return false;
  std::uint64_t first = page->value();
  Keep(first);
  return iova.Free(Iova(first), 1).ok();
}

// Each returns the number of steps that failed. flatten: what one of them does
// decides nothing about what is inlined into another.
[[gnu::noinline, gnu::flatten]] std::uint64_t RunPairs(StandardAllocator& iova,
                                                       std::uint64_t steps) {
  std::uint64_t failures = 0;
  for (std::uint64_t i = 0; i < steps; ++i) {
    if (!Pair(iova)) [[unlikely]]
      ++failures;
  }
  return failures;
}

[[gnu::noinline, gnu::flatten]] std::uint64_t RunLonger(StandardAllocator& iova,
                                                        std::uint64_t steps) {
  std::uint64_t failures = 0;
  for (std::uint64_t i = 0; i < steps; ++i) {
    if (!Pair(iova)) [[unlikely]]
      ++failures;
    if (i % 4 == 0 && !Pair(iova)) [[unlikely]]
      ++failures;
  }
  return failures;
}

[[gnu::noinline, gnu::flatten]] std::uint64_t RunRing(StandardAllocator& iova,
                                                      std::uint64_t steps) {
  std::uint64_t pages = 1;
  Keep(pages);  // a driver's ring knows the size of its buffers at run time
  std::array<Iova, 1024> ring = {};
  for (Iova& page : ring) {
    const Result<Iova> made = iova.Allocate(pages);
    if (!made.ok()) return steps;
    page = *made;
  }
  std::uint64_t failures = 0;
  std::size_t oldest = 0;
  for (std::uint64_t i = 0; i < steps; ++i) {
    if (!iova.Free(ring[oldest], pages).ok()) [[unlikely]]
      ++failures;
    const Result<Iova> page = iova.Allocate(pages);
    if (page.ok()) [[likely]] {
      ring[oldest] = *page;
    } else {
      ++failures;
    }
    oldest = (oldest + 1) % ring.size();
  }
  return failures;
}

int Run(const char* workload, std::uint64_t steps) {
  const Result<Range> window =
      Range::FromFirstLast(Iova(0x1000), Iova(0xffff'ffff'ffff));  // 48 bits
  StandardAllocator iova;
  if (!window.ok() || !iova.Init({.window = *window}).ok()) return 1;
  std::uint64_t failures = 0;
  if (std::strcmp(workload, "pair_1t") == 0) {
    failures = RunPairs(iova, steps);
  } else if (std::strcmp(workload, "ring1024") == 0) {
    failures = RunRing(iova, steps);
  } else if (std::strcmp(workload, "longer") == 0) {
    failures = RunLonger(iova, steps);
  } else {
    std::fprintf(stderr, "iova_fast_path: no workload '%s'\n", workload);
    return 2;
  }
  if (failures == 0) return 0;
  std::fprintf(stderr, "iova_fast_path: %s: a call failed\n", workload);
  return 1;
}

}  // namespace
}  // namespace dmamap

int main(int argc, char** argv) {
  char* end = nullptr;
  const std::uint64_t steps = argc == 3 ? std::strtoull(argv[2], &end, 10) : 0;
  if (steps == 0 || *end != '\0') {
    std::fprintf(stderr, "Usage: iova_fast_path WORKLOAD STEPS\n");
    return 2;
  }
  return dmamap::Run(argv[1], steps);
}
