// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_LINUX_IOVA_H_
#define DMAMAP_BENCHMARKS_PEERS_LINUX_IOVA_H_

// Linux 6.12's IOVA allocator (drivers/iommu/iova.c, compiled unchanged) as an
// IovaSubject. Units as there: 4 KiB pages, inclusive limits, 0 for failure.
//
// Threads: any number up to 15, each of which has entered with a number of its
// own; that is the CPU whose magazines it uses. The allocator does not notice a
// bad free; Free() always says true.

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "benchmarks/peers/iova_subject.h"
#include "benchmarks/peers/linux_kernel.h"

namespace dmamap::peers {

class LinuxIova {
 public:
  static constexpr bool kRanges = true;
  static constexpr bool kFreeElsewhere = true;

  // The limit is each allocation's own, space.last_page is not used.
  static absl::StatusOr<std::unique_ptr<LinuxIova>> Create(
      const IovaSpace& space) {
    iova_domain* domain =
        dmamap_linux_iova_create(space.first_page, space.threads);
    if (domain == nullptr) return absl::ResourceExhaustedError("iova_domain");
    return std::unique_ptr<LinuxIova>(new LinuxIova(domain));
  }
  ~LinuxIova() { dmamap_linux_iova_destroy(domain_); }
  LinuxIova(const LinuxIova&) = delete;
  LinuxIova& operator=(const LinuxIova&) = delete;

  absl::Status EnterThread(unsigned tid) {
    dmamap_linux_enter_cpu(tid);
    return absl::OkStatus();
  }
  void LeaveThread(unsigned) {}

  // Through the per-CPU magazines, which are flushed when nothing is left.
  std::uint64_t Allocate(std::uint64_t pages, std::uint64_t last_page) {
    return alloc_iova_fast(domain_, pages, last_page, true);
  }
  bool Free(std::uint64_t page, std::uint64_t pages) {
    free_iova_fast(domain_, page, pages);
    return true;
  }
  // Straight to the tree.
  std::uint64_t AllocateUncached(std::uint64_t pages, std::uint64_t last_page) {
    return dmamap_linux_iova_alloc_tree(domain_, pages, last_page);
  }
  bool FreeUncached(std::uint64_t page, std::uint64_t) {
    dmamap_linux_iova_free_tree(domain_, page);
    return true;
  }

 private:
  explicit LinuxIova(iova_domain* domain) : domain_(domain) {}
  iova_domain* const domain_;
};

static_assert(UncachedIovaSubject<LinuxIova>);

}  // namespace dmamap::peers

#endif  // DMAMAP_BENCHMARKS_PEERS_LINUX_IOVA_H_
