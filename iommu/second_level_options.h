// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOMMU_SECOND_LEVEL_OPTIONS_H_
#define DMAMAP_IOMMU_SECOND_LEVEL_OPTIONS_H_

// What a SecondLevel is made of and told, and what it tells.

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/sync.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

// Derive and replace a member.
struct SecondLevelPolicies {
  template <class T>
  using Atom = std::atomic<T>;
  template <class T>
  using AtomRef = std::atomic_ref<T>;  // of words that the unit writes
  using LockType = SpinLock;           // a kernel: one that masks interrupts
  static constexpr unsigned kIndexBits = 9;  // hardware's; tests have less
  static constexpr std::size_t kLocks = 64;  // a power of two
  static constexpr std::uint32_t kQueueSlots = 256;  // as kIndexBits
};

struct SecondLevelOptions {
  unsigned levels = 3;  // 3 or 4
  bool two_mib = true;  // leaves of 2 MiB, of 1 GiB
  bool one_gib = true;
  bool snoops = true;        // false: Memory must write back
  bool merges = true;        // makes large leaves out of smaller ones
  unsigned input_bits = 64;  // of addresses; the levels bound them too
  unsigned bus_bits = 52;    // of bus addresses
};

// What Lookup finds.
struct IommuTranslation {
  PhysAddr bus = {};
  Permission permission = Permission::kNone;
  unsigned level = 0;  // of the leaf: 1 is 4 KiB, 2 is 2 MiB, 3 is 1 GiB
};

// Since Init, or now; each of some moment while other calls are under way.
struct SecondLevelStats {
  std::uint64_t tables_made = 0;
  std::uint64_t tables_freed = 0;    // after their invalidation
  std::uint64_t tables_empty = 0;    // now: wait for one, in their places
  std::uint64_t tables_retired = 0;  // now: taken out, wait for it
  std::uint64_t spares = 0;          // now
  std::uint64_t splits = 0;
  std::uint64_t merges = 0;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOMMU_SECOND_LEVEL_OPTIONS_H_
