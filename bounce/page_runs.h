// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_PAGE_RUNS_H_
#define DMAMAP_BOUNCE_PAGE_RUNS_H_

// PageRuns: which units of a fixed stretch of memory are out, which hold old
// bytes, and where there is room. Bits only: it never touches the memory, so
// that nothing a device can write to decides what is handed out.
//
// A run is what one Take returned: units [first, first + count). Three bits a
// unit, one of them a word's summary away:
//
//   used   start  old
//    0      0      0    free, and zero
//    0      0      1    free, holds what the last owner left
//    1      s      0    out; s: the first unit of its run
//    1      1      1    first unit of a run that is on its way back: the owner
//                       of the memory is zeroing it, and nobody may have it
//
// So what is given back is compared with what was taken: a run given back
// twice, in part, or never taken is refused (guarantee 9).
//
// Search is first fit, a word of 64 units at a time, and past words of used
// units by a summary of one bit each: one free unit among 2^18 (1 GiB of 4 KiB)
// is found in at most 64 steps, several in a row in at most 4096 (16 us where
// every second unit is out). Rows that are long enough but lie askew of an
// alignment are tried one by one.
//
// Not thread-safe. No call fails but Init.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "dma/assert.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

enum class UnitContents : std::uint8_t { kZero, kOld };

class PageRuns {
 public:
  static constexpr std::uint64_t kMaxUnits = std::uint64_t{1} << 48;

  struct Taken {
    std::uint64_t first = 0;
    std::uint64_t old = 0;  // how many of its units may hold old bytes
  };

  PageRuns() = default;
  PageRuns(const PageRuns&) = delete;
  PageRuns& operator=(const PageRuns&) = delete;

  // Units 0 .. units-1, all free. kInvalidArgument for 0 or more than
  // kMaxUnits, kNoMemory, kBusy the second time.
  Result<void> Init(std::uint64_t units, UnitContents contents) {
    if (bits_ != nullptr) return Error::kBusy;
    if (units == 0 || units > kMaxUnits) return Error::kInvalidArgument;
    words_ = static_cast<std::size_t>((units + 63) / 64);
    const std::size_t summary = (words_ + 63) / 64;
    bits_.reset(new (std::nothrow) std::uint64_t[3 * words_ + summary]());
    if (bits_ == nullptr) return Error::kNoMemory;
    units_ = units;
    // What the last words have beyond the end is never free.
    Set(used(), units_, words_ * 64);
    Set(full(), words_, summary * 64);
    if (contents == UnitContents::kOld) {
      Set(old(), 0, units_);
      old_units_ = units_;
    }
    if (used()[words_ - 1] == ~std::uint64_t{0}) {
      Set(full(), words_ - 1, words_);
    }
    return Ok();
  }

  std::uint64_t units() const { return units_; }
  std::uint64_t units_out() const { return units_out_; }
  std::uint64_t old_units() const { return old_units_; }  // free ones

  // The first `count` (not 0) free units in a row whose first one is such that
  // next(first) == first; kPoolEmpty. next(i): the first unit from i on at
  // which a run may begin (or anything from units() up).
  template <class Next>
  Result<Taken> Take(std::uint64_t count, Next&& next) {
    std::uint64_t i = next(FindRow(0, count));
    while (i < units_ && count <= units_ - i) {
      const std::uint64_t end = FindUsed(i, i + count);
      if (end == i + count) return TakeHere(i, count);
      i = next(FindRow(end, count));
    }
    return Error::kPoolEmpty;
  }

  // Takes [first, first + count) on its way back, as BeginGive does with a run
  // that is out, if all of it is free and some of it old. Returns how many of
  // its units were old; 0, and nothing changes, otherwise. REQUIRES: within
  // units(); count > 0.
  std::uint64_t BeginTrim(std::uint64_t first, std::uint64_t count) {
    const std::uint64_t end = first + count;
    if (FindUsed(first, end) != end) return 0;
    if (Find(old(), first, end, 0) == end) return 0;
    const Taken taken = TakeHere(first, count);
    Set(old(), first, first + 1);
    return taken.old;
  }

  // Never hands out unit `i`: as if it were on its way back for ever.
  // REQUIRES: it is free.
  void Block(std::uint64_t i) {
    (void)TakeHere(i, 1);
    Set(old(), i, i + 1);
    --units_out_;
    ++blocked_;
  }

  // Whether [first, first + count) is a run that is out, whole.
  bool IsRun(std::uint64_t first, std::uint64_t count) const {
    if (first >= units_ || count == 0 || count > units_ - first) return false;
    const std::uint64_t end = first + count;
    return Test(start(), first) && !Test(old(), first) &&
           Find(start(), first + 1, end, 0) == end &&
           Find(used(), first, end, kInvert) == end &&
           (end == units_ || !Test(used(), end) || Test(start(), end));
  }
  // False, and nothing changes, unless IsRun. From here to EndGive the units
  // belong to the caller: neither free nor out.
  bool BeginGive(std::uint64_t first, std::uint64_t count) {
    if (!IsRun(first, count)) return false;
    Set(old(), first, first + 1);
    return true;
  }
  // REQUIRES: BeginGive(first, count) returned true, or BeginTrim not 0.
  void EndGive(std::uint64_t first, std::uint64_t count,
               UnitContents contents) {
    const std::uint64_t end = first + count;
    DMAMAP_ASSERT(Test(used(), first) && Test(old(), first));
    Clear(used(), first, end);
    Clear(start(), first, first + 1);
    Clear(old(), first, first + 1);
    for (std::uint64_t w = first / 64; w <= (end - 1) / 64; ++w) {
      Clear(full(), w, w + 1);
    }
    units_out_ -= count;
    if (contents == UnitContents::kZero) return;
    Set(old(), first, end);
    old_units_ += count;
  }

  // The first free unit from `from` on that holds old bytes, or units(); and
  // the end of the row of them, at most `end`.
  std::uint64_t FindOld(std::uint64_t from) const {
    for (std::uint64_t i = Find(old(), from, units_, 0); i < units_;
         i = Find(old(), i + 1, units_, 0)) {
      if (!Test(used(), i)) return i;
    }
    return units_;
  }
  std::uint64_t EndOfOld(std::uint64_t from, std::uint64_t end) const {
    end = FindUsed(from, std::min(end, units_));
    return Find(old(), from, end, kInvert);
  }
  // The first used unit in [from, end), or `end`. Blocked units are used.
  std::uint64_t FindUsed(std::uint64_t from, std::uint64_t end) const {
    return Find(used(), from, end, 0);
  }

  // f(first, count) for each run that is out or on its way back, and for each
  // blocked unit.
  template <class F>
  void ForEachRun(F&& f) const {
    std::uint64_t i = Find(start(), 0, units_, 0);
    while (i < units_) {
      const std::uint64_t next = Find(start(), i + 1, units_, 0);
      f(i, Find(used(), i, next, kInvert) - i);
      i = next;
    }
  }

  // REQUIRES: nothing is on its way back.
  bool CheckInvariants() const {
    std::uint64_t used_now = 0;
    std::uint64_t old_now = 0;
    std::uint64_t blocked_now = 0;
    for (std::uint64_t i = 0; i < units_; ++i) {
      const bool u = Test(used(), i);
      used_now += u ? 1 : 0;
      old_now += !u && Test(old(), i) ? 1 : 0;
      blocked_now += u && Test(old(), i) ? 1 : 0;
      if (!u && Test(start(), i)) return false;
      const bool follows = i > 0 && Test(used(), i - 1);
      if (u && !follows && !Test(start(), i)) return false;
    }
    for (std::uint64_t w = 0; w < words_; ++w) {
      const bool is_full = used()[w] == ~std::uint64_t{0};
      if (is_full != Test(full(), w)) return false;
    }
    return used_now == units_out_ + blocked_ && old_now == old_units_ &&
           blocked_now == blocked_;
  }

 private:
  static constexpr std::uint64_t kInvert = ~std::uint64_t{0};

  std::uint64_t* used() const { return bits_.get(); }
  std::uint64_t* start() const { return bits_.get() + words_; }
  std::uint64_t* old() const { return bits_.get() + 2 * words_; }
  // One bit for each word of used(): all of its units are used.
  std::uint64_t* full() const { return bits_.get() + 3 * words_; }

  static bool Test(const std::uint64_t* bits, std::uint64_t i) {
    return ((bits[i / 64] >> (i % 64)) & 1) != 0;
  }
  // f(word, mask of the bits of [first, end) in it).
  template <class F>
  static void ForEachWord(std::uint64_t first, std::uint64_t end, F&& f) {
    for (std::uint64_t i = first; i < end; i = (i / 64 + 1) * 64) {
      std::uint64_t mask = ~std::uint64_t{0} << (i % 64);
      if (end / 64 == i / 64) mask &= ~(~std::uint64_t{0} << (end % 64));
      f(static_cast<std::size_t>(i / 64), mask);
    }
  }
  static void Set(std::uint64_t* bits, std::uint64_t first, std::uint64_t end) {
    ForEachWord(first, end,
                [bits](std::size_t w, std::uint64_t mask) { bits[w] |= mask; });
  }
  static void Clear(std::uint64_t* bits, std::uint64_t first,
                    std::uint64_t end) {
    ForEachWord(first, end, [bits](std::size_t w, std::uint64_t mask) {
      bits[w] &= ~mask;
    });
  }
  // The first bit of [from, end) that is set (clear with kInvert), or `end`.
  static std::uint64_t Find(const std::uint64_t* bits, std::uint64_t from,
                            std::uint64_t end, std::uint64_t invert) {
    for (std::uint64_t i = from; i < end; i = (i / 64 + 1) * 64) {
      const std::uint64_t word =
          (bits[i / 64] ^ invert) & (~std::uint64_t{0} << (i % 64));
      if (word == 0) continue;
      const auto bit = static_cast<std::uint64_t>(std::countr_zero(word));
      return std::min(end, i / 64 * 64 + bit);
    }
    return end;
  }
  std::uint64_t FindFree(std::uint64_t from) const {
    if (from >= units_) return units_;
    const std::uint64_t word_end = std::min(units_, (from / 64 + 1) * 64);
    const std::uint64_t here = Find(used(), from, word_end, kInvert);
    if (here < word_end) return here;
    const std::uint64_t w = Find(full(), from / 64 + 1, words_, kInvert);
    return w == words_ ? units_ : Find(used(), w * 64, units_, kInvert);
  }

  // The first i from `from` on with [i, i + count) free, or units().
  std::uint64_t FindRow(std::uint64_t from, std::uint64_t count) const {
    if (count == 1) return FindFree(from);
    std::uint64_t row = 0;  // free units in front of word w
    std::uint64_t w = from / 64;
    std::uint64_t mask = ~std::uint64_t{0} << (from % 64);
    for (; w < words_; ++w, mask = ~std::uint64_t{0}) {
      const std::uint64_t free = ~used()[w] & mask;
      if (free == 0) {
        row = 0;
        w = Find(full(), w + 1, words_, kInvert) - 1;
        continue;
      }
      const auto low = static_cast<std::uint64_t>(std::countr_one(free));
      if (row + low >= count) return w * 64 - row;
      if (low == 64) {
        row += 64;
        continue;
      }
      const std::uint64_t inside = RowsIn(free, count);
      if (inside != 0) {
        return w * 64 + static_cast<std::uint64_t>(std::countr_zero(inside));
      }
      row = static_cast<std::uint64_t>(std::countl_one(free));
    }
    return units_;
  }
  // The bits of `free` from which `count` bits in a row are set.
  static std::uint64_t RowsIn(std::uint64_t free, std::uint64_t count) {
    if (count > 64) return 0;
    for (std::uint64_t n = 1; n < count;) {
      const std::uint64_t step = std::min(n, count - n);
      free &= free >> step;
      n += step;
    }
    return free;
  }

  Taken TakeHere(std::uint64_t first, std::uint64_t count) {
    const std::uint64_t end = first + count;
    std::uint64_t old_here = 0;
    ForEachWord(first, end, [&](std::size_t w, std::uint64_t mask) {
      old_here += static_cast<std::uint64_t>(std::popcount(old()[w] & mask));
      old()[w] &= ~mask;
      used()[w] |= mask;
      if (used()[w] == ~std::uint64_t{0}) Set(full(), w, w + 1);
    });
    Set(start(), first, first + 1);
    old_units_ -= old_here;
    units_out_ += count;
    return {first, old_here};
  }

  std::uint64_t units_ = 0;
  std::size_t words_ = 0;
  std::uint64_t units_out_ = 0;  // with those on their way back
  std::uint64_t old_units_ = 0;
  std::uint64_t blocked_ = 0;
  std::unique_ptr<std::uint64_t[]> bits_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_BOUNCE_PAGE_RUNS_H_
