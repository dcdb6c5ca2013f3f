// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DMA_ADDRESS_H_
#define DMAMAP_DMA_ADDRESS_H_

// Addresses, page sizes and inclusive ranges.
//
//   Iova      an address as the device sees it (I/O virtual address), in bytes.
//   PhysAddr  an address as memory sees it, in bytes: a physical address in a
//             kernel, a host virtual address in a userspace driver. What it
//             means is the business of the MemoryAccess that reads it.
//
// The two are distinct types: a driver that hands one for the other does not
// compile. A Range is inclusive at both ends, so that the range that ends at
// 2^64-1 is an ordinary one, and it always holds at least one byte: a zero
// length and a wrap are errors when the range is made, never later.
//
//   Result<Range> r = Range::FromSize(Iova(0x1000), 0x2000);  //
//   [0x1000,0x2fff]
//
// Everything here is constexpr, trivially copyable and free of side effects.

#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include "dma/assert.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

// A 64-bit byte address that does not mix with addresses of another Tag.
template <class Tag>
class Address {
 public:
  constexpr Address() = default;
  constexpr explicit Address(std::uint64_t value) : value_(value) {}

  static constexpr Address Min() { return Address(0); }
  static constexpr Address Max() {
    return Address(std::numeric_limits<std::uint64_t>::max());
  }

  constexpr std::uint64_t value() const { return value_; }

  friend constexpr auto operator<=>(Address, Address) = default;
  friend constexpr bool operator==(Address, Address) = default;

  // Modulo 2^64, for offsets that are already known to stay inside a range.
  friend constexpr Address operator+(Address a, std::uint64_t bytes) {
    return Address(a.value_ + bytes);
  }
  friend constexpr Address operator-(Address a, std::uint64_t bytes) {
    return Address(a.value_ - bytes);
  }
  // Bytes from b up to a, modulo 2^64.
  friend constexpr std::uint64_t operator-(Address a, Address b) {
    return a.value_ - b.value_;
  }

  // This address plus `bytes`; kOverflow when that passes 2^64-1.
  constexpr Result<Address> CheckedAdd(std::uint64_t bytes) const {
    if (bytes > Max().value_ - value_) return Error::kOverflow;
    return Address(value_ + bytes);
  }

 private:
  std::uint64_t value_ = 0;
};

struct IovaTag;
struct PhysAddrTag;
using Iova = Address<IovaTag>;
using PhysAddr = Address<PhysAddrTag>;

// The PhysAddr of a host pointer, for embedders whose "physical" addresses are
// host virtual ones; and back.
inline PhysAddr PhysAddrOf(const volatile void* pointer) {
  return PhysAddr(reinterpret_cast<std::uintptr_t>(pointer));
}
inline std::byte* PointerTo(PhysAddr address) {
  return reinterpret_cast<std::byte*>(
      static_cast<std::uintptr_t>(address.value()));
}

// True for 1, 2, 4, ... 2^63.
constexpr bool IsPowerOfTwo(std::uint64_t n) {
  return n != 0 && (n & (n - 1)) == 0;
}

// A page size (a power of two of bytes) and the arithmetic on it. No function
// overflows: one that could returns a Result.
class PageSize {
 public:
  // 4 KiB, the page of every IOMMU this library knows.
  constexpr PageSize() = default;

  // kInvalidArgument unless 2^shift fits an address (shift 0 to 63).
  static constexpr Result<PageSize> FromShift(unsigned shift) {
    if (shift > 63) return Error::kInvalidArgument;
    return PageSize(shift);
  }
  // kInvalidArgument unless `bytes` is a power of two.
  static constexpr Result<PageSize> FromBytes(std::uint64_t bytes) {
    if (!IsPowerOfTwo(bytes)) return Error::kInvalidArgument;
    unsigned shift = 0;
    while ((bytes >> shift) != 1) ++shift;
    return PageSize(shift);
  }

  constexpr unsigned shift() const { return shift_; }
  constexpr std::uint64_t bytes() const { return std::uint64_t{1} << shift_; }
  constexpr std::uint64_t mask() const { return bytes() - 1; }  // offset bits

  constexpr bool IsAligned(std::uint64_t n) const { return (n & mask()) == 0; }
  constexpr std::uint64_t Offset(std::uint64_t n) const { return n & mask(); }
  constexpr std::uint64_t RoundDown(std::uint64_t n) const {
    return n & ~mask();
  }
  // kOverflow when the next page boundary is 2^64.
  constexpr Result<std::uint64_t> RoundUp(std::uint64_t n) const {
    if (n > RoundDown(std::numeric_limits<std::uint64_t>::max())) {
      return Error::kOverflow;
    }
    return RoundDown(n + mask());
  }
  // Pages that hold `bytes` bytes from a page's start; 0 for 0. Cannot
  // overflow.
  constexpr std::uint64_t PagesFor(std::uint64_t n) const {
    return (n >> shift_) + ((n & mask()) != 0 ? 1 : 0);
  }
  // The number of the page that holds `address`.
  template <class Tag>
  constexpr std::uint64_t Number(Address<Tag> address) const {
    return address.value() >> shift_;
  }

  friend constexpr bool operator==(PageSize, PageSize) = default;

 private:
  constexpr explicit PageSize(unsigned shift) : shift_(shift) {}
  unsigned shift_ = 12;
};

// All bytes from first() to last(), both included. Never empty.
template <class A>
class BasicRange {
 public:
  // The single byte at address 0.
  constexpr BasicRange() = default;

  // kInvalidArgument when last < first.
  static constexpr Result<BasicRange> FromFirstLast(A first, A last) {
    if (last < first) return Error::kInvalidArgument;
    return BasicRange(first, last);
  }
  // `size` bytes from `first`: kInvalidArgument for size 0, kOverflow when the
  // last byte would lie above 2^64-1.
  static constexpr Result<BasicRange> FromSize(A first, std::uint64_t size) {
    if (size == 0) return Error::kInvalidArgument;
    const Result<A> last = first.CheckedAdd(size - 1);
    if (!last.ok()) return last.error();
    return BasicRange(first, *last);
  }
  // [0, 2^64-1].
  static constexpr BasicRange Whole() { return BasicRange(A::Min(), A::Max()); }
  // One byte.
  static constexpr BasicRange Byte(A at) { return BasicRange(at, at); }

  constexpr A first() const { return first_; }
  constexpr A last() const { return last_; }
  // Bytes in the range, less one: fits 64 bits for every range.
  constexpr std::uint64_t size_minus_one() const { return last_ - first_; }
  // Bytes in the range modulo 2^64: 0 stands for 2^64, the whole space.
  constexpr std::uint64_t size() const { return size_minus_one() + 1; }

  constexpr bool Contains(A at) const { return first_ <= at && at <= last_; }
  constexpr bool Contains(const BasicRange& o) const {
    return first_ <= o.first_ && o.last_ <= last_;
  }
  constexpr bool Overlaps(const BasicRange& o) const {
    return first_ <= o.last_ && o.first_ <= last_;
  }
  // True when `o` begins right behind this range.
  constexpr bool IsFollowedBy(const BasicRange& o) const {
    return last_ != A::Max() && last_ + 1 == o.first_;
  }

  // The bytes in both; kOutOfRange when there are none.
  constexpr Result<BasicRange> Intersect(const BasicRange& o) const {
    if (!Overlaps(o)) return Error::kOutOfRange;
    return BasicRange(first_ < o.first_ ? o.first_ : first_,
                      last_ < o.last_ ? last_ : o.last_);
  }

  // Two ranges, the second of which begins at `at`. kOutOfRange unless both
  // would hold at least one byte (first() < at <= last()).
  constexpr Result<std::pair<BasicRange, BasicRange>> SplitAt(A at) const {
    if (at <= first_ || at > last_) return Error::kOutOfRange;
    return std::pair(BasicRange(first_, at - 1), BasicRange(at, last_));
  }

  // The smallest whole pages around this range. Cannot overflow.
  constexpr BasicRange RoundOutToPages(PageSize page) const {
    return BasicRange(A(page.RoundDown(first_.value())),
                      A(last_.value() | page.mask()));
  }
  // The whole pages inside this range; kOutOfRange when there is none.
  constexpr Result<BasicRange> RoundInToPages(PageSize page) const {
    const Result<std::uint64_t> first = page.RoundUp(first_.value());
    if (!first.ok()) return Error::kOutOfRange;
    // The last page that ends inside: its last byte has all offset bits set.
    const bool whole = (last_.value() & page.mask()) == page.mask();
    const std::uint64_t start = page.RoundDown(last_.value());
    if (!whole && start == 0) return Error::kOutOfRange;
    const A last = whole ? last_ : A(start - 1);
    if (last < A(*first)) return Error::kOutOfRange;
    return BasicRange(A(*first), last);
  }
  // True when the range is made of whole pages.
  constexpr bool IsPageAligned(PageSize page) const {
    return page.IsAligned(first_.value()) &&
           (last_.value() & page.mask()) == page.mask();
  }
  // Pages that the range touches, less one: fits 64 bits for every range.
  constexpr std::uint64_t PagesTouchedMinusOne(PageSize page) const {
    return page.Number(last_) - page.Number(first_);
  }

  friend constexpr bool operator==(const BasicRange&,
                                   const BasicRange&) = default;

 private:
  constexpr BasicRange(A first, A last) : first_(first), last_(last) {
    DMAMAP_ASSERT(first <= last);
  }

  A first_{};
  A last_{};
};

using Range = BasicRange<Iova>;
using PhysRange = BasicRange<PhysAddr>;

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DMA_ADDRESS_H_
