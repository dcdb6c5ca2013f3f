// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOMMU_TABLE_ENTRY_H_
#define DMAMAP_IOMMU_TABLE_ENTRY_H_

// TableEntry: the eight bytes of Intel VT-d's second-level (second-stage)
// paging structures.
//
//   63    ignored by hardware     in a table's entry: kNoted
//   61:52 ignored by hardware     in a table's entry: how many entries of that
//                                 table are in use; in a leaf: 52, 53, the
//                                 pages that are kept to split it
//   51:12 address of the table, or of the page
//   7     PS: a leaf above level 1
//   1, 0  the device may write, read; both 0: not present, and hardware looks
//         at no other bit
//
// Source: Intel Virtualization Technology for Directed I/O, Architecture
// Specification, revision 5.10, section 9.8, "Second-Stage Paging Entries",
// tables 42 to 45. There bit 61 is ignored as long as "Second Stage I/O
// Read/Write" is off, which legacy mode does not turn on; 62 is reserved.
//
// A plain value; everything is constexpr.

#include <cstdint>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

class TableEntry {
 public:
  static constexpr std::uint64_t kRead = 1u << 0;
  static constexpr std::uint64_t kWrite = 1u << 1;
  static constexpr std::uint64_t kLarge = 1u << 7;  // PS
  static constexpr std::uint64_t kAddress = 0x000f'ffff'ffff'f000;
  static constexpr unsigned kCountShift = 52;
  static constexpr std::uint64_t kCountOne = std::uint64_t{1} << kCountShift;
  static constexpr std::uint64_t kCount = std::uint64_t{0x3ff} << kCountShift;
  // Of a leaf: a page is kept so that the leaf can be split; and one for each
  // of the leaves of level 2 that a leaf of level 3 becomes (SecondLevel).
  static constexpr std::uint64_t kSpare = kCountOne;
  static constexpr std::uint64_t kSpareBelow = kCountOne << 1;
  // Of a table's entry: it is in the list of empty ones (EmptyTables).
  static constexpr std::uint64_t kNoted = std::uint64_t{1} << 63;

  constexpr TableEntry() = default;
  constexpr explicit TableEntry(std::uint64_t bits) : bits_(bits) {}

  static constexpr TableEntry Leaf(PhysAddr bus, Permission permission,
                                   unsigned level) {
    return TableEntry(bus.value() | static_cast<std::uint64_t>(permission) |
                      (level > 1 ? kLarge : 0));
  }
  // Tables allow everything; leaves decide.
  static constexpr TableEntry Table(PhysAddr bus, std::uint64_t count) {
    return TableEntry(bus.value() | kRead | kWrite | count << kCountShift);
  }

  constexpr std::uint64_t bits() const { return bits_; }
  constexpr bool present() const { return (bits_ & (kRead | kWrite)) != 0; }
  constexpr bool IsLeaf(unsigned level) const {
    return present() && (level == 1 || (bits_ & kLarge) != 0);
  }
  constexpr bool IsTable(unsigned level) const {
    return present() && !IsLeaf(level);
  }
  constexpr PhysAddr address() const { return PhysAddr(bits_ & kAddress); }
  constexpr Permission permission() const {
    return static_cast<Permission>(bits_ & (kRead | kWrite));
  }
  constexpr std::uint64_t count() const {
    return (bits_ & kCount) >> kCountShift;
  }
  constexpr bool has_spare() const { return (bits_ & kSpare) != 0; }
  constexpr bool has_spare_below() const { return (bits_ & kSpareBelow) != 0; }
  constexpr bool noted() const { return (bits_ & kNoted) != 0; }

  // REQUIRES: n more, or less, is a count.
  constexpr TableEntry Plus(std::uint64_t n) const {
    return TableEntry(bits_ + (n << kCountShift));
  }
  constexpr TableEntry Minus(std::uint64_t n) const {
    return TableEntry(bits_ - (n << kCountShift));
  }
  constexpr TableEntry Plain() const { return TableEntry(bits_ & ~kNoted); }
  constexpr TableEntry Noted() const { return TableEntry(bits_ | kNoted); }
  constexpr TableEntry With(Permission permission) const {
    return TableEntry((bits_ & ~(kRead | kWrite)) |
                      static_cast<std::uint64_t>(permission));
  }

  friend constexpr bool operator==(TableEntry, TableEntry) = default;

 private:
  std::uint64_t bits_ = 0;
};

// R and W are where Permission has them.
static_assert(static_cast<std::uint64_t>(Permission::kRead) ==
              TableEntry::kRead);
static_assert(static_cast<std::uint64_t>(Permission::kWrite) ==
              TableEntry::kWrite);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOMMU_TABLE_ENTRY_H_
