// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_IOTLB_SUBJECT_H_
#define DMAMAP_BENCHMARKS_PEERS_IOTLB_SUBJECT_H_

// What an IOTLB must offer to be measured (iotlb_workloads.h).
//
// Ranges are of bytes, both ends included. Address 0 stands for a miss: the
// workloads map nothing to it. Permissions are bits: 1 the device may read, 2
// it may write; all mappings of the workloads have both.

#include <atomic>
#include <concepts>
#include <cstdint>
#include <memory>
#include <mutex>

#include "absl/status/statusor.h"
#include "benchmarks/peers/measure.h"

namespace dmamap::peers {

struct WalkResult {
  std::uint64_t count = 0;  // mappings visited
  std::uint64_t sum = 0;    // of their addresses, modulo 2^64

  friend bool operator==(const WalkResult&, const WalkResult&) = default;
};

// A reader is what one thread looks up with; it may hold a hint or an epoch.
template <class R>
concept IotlbReader = requires(R& r, std::uint64_t iova) {
  // While nobody changes the IOTLB.
  { r.Lookup(iova) } -> std::same_as<std::uint64_t>;
  // While others look up and change it.
  { r.LookupShared(iova) } -> std::same_as<std::uint64_t>;
};

template <class S>
concept IotlbSubject = requires(S& s, std::uint64_t n, unsigned permission) {
  // The most mappings that it holds; 0 for no limit.
  { S::kMaxMappings } -> std::convertible_to<std::uint64_t>;
  // False: single pages all over a 48-bit space would exhaust the memory.
  { S::kSparse } -> std::convertible_to<bool>;
  // `n` mappings are going to be added.
  { S::Create(n) } -> std::same_as<absl::StatusOr<std::unique_ptr<S>>>;
  { s.NewReader() } -> IotlbReader;
  // One thread at a time: [first, last] becomes address...
  { s.Add(n, n, n, permission) } -> std::same_as<bool>;
  // ...and what overlaps [first, last] is removed.
  s.Remove(n, n);
  // The same while other threads look up and change the IOTLB.
  { s.AddShared(n, n, n, permission) } -> std::same_as<bool>;
  s.RemoveShared(n, n);
};

// In order of the first byte, all mappings that overlap [first, last].
template <class S>
concept WalkableIotlb = IotlbSubject<S> && requires(S& s, std::uint64_t n) {
  { s.Walk(n, n) } -> std::same_as<WalkResult>;
};

// A reader without state of its own: forwards to the IOTLB.
template <class S>
class PlainReader {
 public:
  explicit PlainReader(S& iotlb) : iotlb_(&iotlb) {}
  std::uint64_t Lookup(std::uint64_t iova) { return iotlb_->Lookup(iova); }
  std::uint64_t LookupShared(std::uint64_t iova) {
    return iotlb_->LookupShared(iova);
  }

 private:
  S* iotlb_;
};

// Test-and-test-and-set, the lock that the kernel's peers get as well.
class PeerSpinLock {
 public:
  void lock() {
    // acquire: pairs with unlock.
    while (taken_.exchange(true, std::memory_order_acquire)) {
      // relaxed: only to wait; the exchange decides.
      while (taken_.load(std::memory_order_relaxed)) Pause();
    }
  }
  // release: what was done under the lock, before it is free.
  void unlock() { taken_.store(false, std::memory_order_release); }

 private:
  alignas(64) std::atomic<bool> taken_{false};
};

// A container for one thread at a time (Add, Remove, Lookup and maybe Walk),
// with its shared calls under a spinlock.
template <class Container>
class LockedIotlb {
 public:
  static constexpr std::uint64_t kMaxMappings = Container::kMaxMappings;
  static constexpr bool kSparse = true;

  static absl::StatusOr<std::unique_ptr<LockedIotlb>> Create(std::uint64_t) {
    return std::make_unique<LockedIotlb>();
  }
  PlainReader<LockedIotlb> NewReader() {
    return PlainReader<LockedIotlb>(*this);
  }

  bool Add(std::uint64_t first, std::uint64_t last, std::uint64_t address,
           unsigned permission) {
    return container_.Add(first, last, address, permission);
  }
  void Remove(std::uint64_t first, std::uint64_t last) {
    container_.Remove(first, last);
  }
  std::uint64_t Lookup(std::uint64_t iova) { return container_.Lookup(iova); }
  WalkResult Walk(std::uint64_t first, std::uint64_t last) {
    return container_.Walk(first, last);
  }

  bool AddShared(std::uint64_t first, std::uint64_t last, std::uint64_t address,
                 unsigned permission) {
    const std::lock_guard lock(lock_);
    return container_.Add(first, last, address, permission);
  }
  void RemoveShared(std::uint64_t first, std::uint64_t last) {
    const std::lock_guard lock(lock_);
    container_.Remove(first, last);
  }
  std::uint64_t LookupShared(std::uint64_t iova) {
    const std::lock_guard lock(lock_);
    return container_.Lookup(iova);
  }

 private:
  PeerSpinLock lock_;
  Container container_;
};

}  // namespace dmamap::peers

#endif  // DMAMAP_BENCHMARKS_PEERS_IOTLB_SUBJECT_H_
