// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_LINUX_IOTLB_H_
#define DMAMAP_BENCHMARKS_PEERS_LINUX_IOTLB_H_

// Linux 6.12's vhost IOTLB (drivers/vhost/iotlb.c, compiled unchanged) as an
// IotlbSubject. Units: bytes, inclusive ranges; address 0 for a miss.
//
// Threads: one at a time for the plain calls; the shared ones hold a spinlock,
// as VDUSE does around the same calls.

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "benchmarks/peers/iotlb_subject.h"
#include "benchmarks/peers/linux_kernel.h"

namespace dmamap::peers {

class LinuxIotlb {
 public:
  static constexpr std::uint64_t kMaxMappings = 0;
  static constexpr bool kSparse = true;

  static absl::StatusOr<std::unique_ptr<LinuxIotlb>> Create(std::uint64_t) {
    dmamap_linux_iotlb* iotlb = dmamap_linux_iotlb_create();
    if (iotlb == nullptr) return absl::ResourceExhaustedError("vhost_iotlb");
    return std::unique_ptr<LinuxIotlb>(new LinuxIotlb(iotlb));
  }
  ~LinuxIotlb() { dmamap_linux_iotlb_destroy(iotlb_); }
  LinuxIotlb(const LinuxIotlb&) = delete;
  LinuxIotlb& operator=(const LinuxIotlb&) = delete;

  PlainReader<LinuxIotlb> NewReader() { return PlainReader<LinuxIotlb>(*this); }

  bool Add(std::uint64_t first, std::uint64_t last, std::uint64_t address,
           unsigned permission) {
    return dmamap_linux_iotlb_add(iotlb_, first, last, address, permission);
  }
  void Remove(std::uint64_t first, std::uint64_t last) {
    dmamap_linux_iotlb_remove(iotlb_, first, last);
  }
  std::uint64_t Lookup(std::uint64_t iova) {
    return dmamap_linux_iotlb_lookup(iotlb_, iova);
  }
  WalkResult Walk(std::uint64_t first, std::uint64_t last) {
    WalkResult result;
    result.count = dmamap_linux_iotlb_walk(iotlb_, first, last, &result.sum);
    return result;
  }

  bool AddShared(std::uint64_t first, std::uint64_t last, std::uint64_t address,
                 unsigned permission) {
    return dmamap_linux_iotlb_add_locked(iotlb_, first, last, address,
                                         permission);
  }
  void RemoveShared(std::uint64_t first, std::uint64_t last) {
    dmamap_linux_iotlb_remove_locked(iotlb_, first, last);
  }
  std::uint64_t LookupShared(std::uint64_t iova) {
    return dmamap_linux_iotlb_lookup_locked(iotlb_, iova);
  }

 private:
  explicit LinuxIotlb(dmamap_linux_iotlb* iotlb) : iotlb_(iotlb) {}
  dmamap_linux_iotlb* const iotlb_;
};

static_assert(WalkableIotlb<LinuxIotlb>);

}  // namespace dmamap::peers

#endif  // DMAMAP_BENCHMARKS_PEERS_LINUX_IOTLB_H_
