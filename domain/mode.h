// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_MODE_H_
#define DMAMAP_DOMAIN_MODE_H_

// How a domain makes a buffer visible to its device: the modes, what they may
// be told, and the words of the two-step form.
//
//   mode            the device reaches             an Unmap costs   who is safe
//   kBounce         pages that show the buffer     an invalidation  all others
//   kDirect         the buffer's pages             an invalidation  nobody near
//   kUnalignedEnds  its whole pages; pages that    an invalidation  all others
//                   show what is at its ends
//   kPooled         slots that are always mapped   a copy           all others
//   kAutomatic      what costs less                the less         see
//   map_with
//
// "Nobody near": what else lies on the buffer's first and last page is the
// device's as well. docs/modes.md says how to choose.
//
// kBounce needs nothing of the device; the others, and kBounce where a device
// cannot fault, need an Invalidation that is an IommuMap.

#include <cstdint>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

enum class DomainMode : std::uint8_t {
  kBounce,
  kDirect,
  kUnalignedEnds,
  kPooled,
  kAutomatic,
};
constexpr bool IsValid(DomainMode mode) {
  return mode <= DomainMode::kAutomatic;
}

constexpr const char* ToString(DomainMode mode) {
  switch (mode) {
    case DomainMode::kBounce:
      return "bounce";
    case DomainMode::kDirect:
      return "direct";
    case DomainMode::kUnalignedEnds:
      return "unaligned ends";
    case DomainMode::kPooled:
      return "pooled";
    case DomainMode::kAutomatic:
      return "automatic";
  }
  return "invalid mode";
}

// What kAutomatic decides by (map_cost.h). Times are ns of `clock`.
struct AutomaticOptions {
  // A clock: thread-safe, monotonic, cheap (it is read twice in each call for
  // one mapping in 16). Null: nothing is measured, the guesses below stand.
  std::uint64_t (*clock)(void* context) = nullptr;
  void* clock_context = nullptr;
  // What is believed before anything was measured: of one mapping, to map and
  // unmap it with its share of an invalidation; of 1 KiB, to copy it.
  std::uint64_t map_ns = 1000;
  std::uint64_t copy_ns_per_kib = 100;
  // The limit between the two moves when what was measured puts it further from
  // where it is than this share of it.
  unsigned hysteresis_percent = 25;
  // One mapping in so many, of those near the limit, goes the other way, so
  // that what is not used is measured too. 0: none.
  unsigned probe_interval = 256;
  // Bytes: above, nothing is copied; at or below `always_copy`, everything is.
  std::uint64_t never_copy = std::uint64_t{256} << 10;
  std::uint64_t always_copy = 0;
  // What a mapping that is not copied is: kUnalignedEnds, or kDirect for a
  // device that may see what else lies on a buffer's pages.
  DomainMode map_with = DomainMode::kUnalignedEnds;
};

// Addresses that Domain::Reserve took, and no memory behind them yet. A value:
// keep it, and give it back unchanged.
struct Reservation {
  Iova iova = {};          // its first byte
  std::uint64_t size = 0;  // bytes
  std::uint32_t tag = 0;   // opaque

  friend constexpr bool operator==(const Reservation&,
                                   const Reservation&) = default;
};

// What stands for the time at which a buffer was unmapped (Domain::Retired).
enum class SafetyTicket : std::uint64_t {};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_MODE_H_
