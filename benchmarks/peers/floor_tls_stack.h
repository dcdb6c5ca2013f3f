// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_FLOOR_TLS_STACK_H_
#define DMAMAP_BENCHMARKS_PEERS_FLOOR_TLS_STACK_H_

// The floor of the IOVA workloads: a thread-local array of page numbers, used
// as a stack. No lock, no atomic, no check, no sizes, no other thread: what is
// left is the cost of remembering an address at all.
//
// Threads: each has pages of its own and must free what it allocated. One
// allocator at a time for a thread, since the stack belongs to the thread.

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "benchmarks/peers/iova_subject.h"

namespace dmamap::peers {

class FloorTlsStack {
 public:
  static constexpr bool kRanges = false;
  static constexpr bool kFreeElsewhere = false;

  static absl::StatusOr<std::unique_ptr<FloorTlsStack>> Create(
      const IovaSpace&) {
    return std::make_unique<FloorTlsStack>();
  }

  absl::Status EnterThread(unsigned tid) {
    stack_.size = 0;
    for (std::uint64_t i = 0; i < kPages / 2; ++i) {
      stack_.pages[stack_.size++] = 1 + i + tid * kPages;
    }
    return absl::OkStatus();
  }
  void LeaveThread(unsigned) {}

  std::uint64_t Allocate(std::uint64_t, std::uint64_t) {
    if (stack_.size == 0) [[unlikely]]
      return 0;
    return stack_.pages[--stack_.size];
  }
  bool Free(std::uint64_t page, std::uint64_t) {
    if (stack_.size == kPages) [[unlikely]]
      return false;
    stack_.pages[stack_.size++] = page;
    return true;
  }

 private:
  static constexpr std::uint64_t kPages = 4096;
  struct Stack {
    std::uint64_t size;
    std::uint64_t pages[kPages];
  };
  // The model of a program's own thread-local data: one instruction to find.
  [[gnu::tls_model("initial-exec")]] static inline thread_local Stack stack_{};
};

static_assert(IovaSubject<FloorTlsStack>);

}  // namespace dmamap::peers

#endif  // DMAMAP_BENCHMARKS_PEERS_FLOOR_TLS_STACK_H_
