// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_FAILING_NEW_FOR_TEST_H_
#define DMAMAP_DOMAIN_FAILING_NEW_FOR_TEST_H_

// Replaces operator new of the program, so that a nothrow allocation can be
// made to fail. For one source file of a test.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace dmamap::testing_parts {

// The next but fail_in allocation by nothrow new fails, once.
inline thread_local std::uint64_t fail_in = ~std::uint64_t{0};
inline bool FailsNow() { return fail_in-- == 0; }

}  // namespace dmamap::testing_parts

// noinline: g++ 12 warns of a pair of which it sees through one only.
[[gnu::noinline]] void* operator new(std::size_t n,
                                     const std::nothrow_t&) noexcept {
  return dmamap::testing_parts::FailsNow() ? nullptr
                                           : std::malloc(n == 0 ? 1 : n);
}
[[gnu::noinline]] void* operator new(std::size_t n, std::align_val_t align,
                                     const std::nothrow_t&) noexcept {
  const auto a = static_cast<std::size_t>(align);
  return dmamap::testing_parts::FailsNow()
             ? nullptr
             : std::aligned_alloc(a, (n + a - 1) / a * a);
}
// Those of arrays do not call the ones above: not in libstdc++ at least.
[[gnu::noinline]] void* operator new[](std::size_t n,
                                       const std::nothrow_t& t) noexcept {
  return operator new(n, t);
}
[[gnu::noinline]] void* operator new[](std::size_t n, std::align_val_t align,
                                       const std::nothrow_t& t) noexcept {
  return operator new(n, align, t);
}
[[gnu::noinline]] void operator delete(void* p,
                                       const std::nothrow_t&) noexcept {
  std::free(p);
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept {
  std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept {
  std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, std::size_t,
                                       std::align_val_t) noexcept {
  std::free(p);
}
[[gnu::noinline]] void* operator new(std::size_t n) {
  void* p = std::malloc(n == 0 ? 1 : n);
  if (p == nullptr) std::abort();
  return p;
}

#endif  // DMAMAP_DOMAIN_FAILING_NEW_FOR_TEST_H_
