// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_PAGE_CALLS_FOR_TEST_H_
#define DMAMAP_BOUNCE_PAGE_CALLS_FOR_TEST_H_

// System calls that are counted and fail when a test says so. The others reach
// the system.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "bounce/linux_pages.h"
#include "dma/address.h"

namespace dmamap::testing_parts {

struct CallPlan {
  // Calls from here on that succeed; the next one fails, once. Negative: all.
  std::atomic<std::int64_t> fail_in{-1};
  // Kinds of call that fail for as long as it is set.
  std::atomic<bool> no_map{false};
  std::atomic<bool> no_hugetlb{true};
  std::atomic<bool> no_discard{false};
  std::atomic<bool> no_back{false};
  std::atomic<bool> no_punch{false};

  std::atomic<std::int64_t> mapped{0};  // bytes now
  std::atomic<std::int64_t> files{0};   // now
  std::atomic<std::uint64_t> calls{0};  // ever; so are the rest
  std::atomic<std::uint64_t> backed{0};
  std::atomic<std::uint64_t> discarded{0};  // bytes
  std::atomic<std::uint64_t> punched{0};    // bytes

  bool Fails(bool kind) {
    ++calls;
    if (kind) return true;
    return fail_in >= 0 && fail_in-- == 0;
  }
};

class PlannedCalls {
 public:
  static constexpr bool kSupported = SystemPageCalls::kSupported;

  explicit PlannedCalls(CallPlan* plan) : plan_(plan) {}

  // A pool of huge pages is played with memory of the usual kind.
  std::byte* Map(std::uint64_t bytes, HugeBacking* backing) {
    const bool pool = *backing == HugeBacking::kHugetlb;
    if (plan_->Fails(plan_->no_map || (pool && plan_->no_hugetlb))) {
      return nullptr;
    }
    HugeBacking plain = HugeBacking::kPlain;
    std::byte* const memory = system_.Map(bytes, pool ? &plain : backing);
    return Note(memory, bytes);
  }
  void Unmap(std::byte* memory, std::uint64_t bytes) {
    plan_->mapped -= static_cast<std::int64_t>(bytes);
    system_.Unmap(memory, bytes);
  }
  bool Discard(std::byte* memory, std::uint64_t bytes) {
    if (plan_->Fails(plan_->no_discard)) return false;
    plan_->discarded += bytes;
    return system_.Discard(memory, bytes);
  }
  int CreateFile() {
    if (plan_->Fails(false)) return -1;
    const int fd = system_.CreateFile();
    if (fd >= 0) ++plan_->files;
    return fd;
  }
  void CloseFile(int fd) {
    --plan_->files;
    system_.CloseFile(fd);
  }
  std::byte* MapFile(int fd, std::uint64_t bytes) {
    if (plan_->Fails(plan_->no_map)) return nullptr;
    return Note(system_.MapFile(fd, bytes), bytes);
  }
  bool BackFile(int fd, std::uint64_t offset, std::uint64_t bytes) {
    if (plan_->Fails(plan_->no_back)) return false;
    plan_->backed += bytes;
    return system_.BackFile(fd, offset, bytes);
  }
  bool PunchFile(int fd, std::uint64_t offset, std::uint64_t bytes) {
    if (plan_->Fails(plan_->no_punch)) return false;
    plan_->punched += bytes;
    return system_.PunchFile(fd, offset, bytes);
  }

 private:
  std::byte* Note(std::byte* memory, std::uint64_t bytes) {
    if (memory != nullptr) plan_->mapped += static_cast<std::int64_t>(bytes);
    return memory;
  }

  CallPlan* plan_;
  SystemPageCalls system_;
};

struct PlannedPolicy : PagePolicy {
  using Calls = PlannedCalls;
};

inline bool AllAre(const std::byte* memory, std::uint64_t bytes,
                   std::byte value) {
  // Each byte is as the one before it.
  return bytes == 0 || (memory[0] == value &&
                        std::memcmp(memory, memory + 1,
                                    static_cast<std::size_t>(bytes) - 1) == 0);
}
inline bool AllZero(const std::byte* memory, std::uint64_t bytes) {
  return AllAre(memory, bytes, std::byte{0});
}
inline void Scribble(std::byte* memory, std::uint64_t bytes) {
  std::memset(memory, 0x5a, static_cast<std::size_t>(bytes));
}

}  // namespace dmamap::testing_parts

#endif  // DMAMAP_BOUNCE_PAGE_CALLS_FOR_TEST_H_
