// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_CARVED_PAGES_H_
#define DMAMAP_BOUNCE_CARVED_PAGES_H_

// CarvedPages: the part that the sources which own a fixed stretch of memory
// have in common: a lock, a budget, and PageRuns over the units of the stretch.
// What memory it is, a Place says; when it goes back to the system, the source.
//
// The lock is held for a search among bits, and never over a system call or
// while memory is zeroed: a block that is on its way back belongs to the thread
// that brings it (PageRuns). Whoever finds no room waits while such blocks are
// under way, so that nobody is refused what is about to be there.
//
// Thread-safe. Progress: blocking, as the lock is.

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <utility>

#include "bounce/page_budget.h"
#include "bounce/page_runs.h"
#include "dma/address.h"
#include "dma/assert.h"
#include "dma/atom.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

// What such a source is composed of. Derive and override one name.
struct PagePolicy {
  using LockType = SpinLock;
  template <class T>
  using Atom = std::atomic<T>;
};

namespace internal {

inline constexpr std::uint64_t kNoUnit =
    std::numeric_limits<std::uint64_t>::max();

// Where the units of a stretch are in memory.
template <class P>
concept UnitPlace = std::movable<P> && std::default_initializable<P> &&
    requires(const P& p, std::uint64_t unit, const std::byte* memory,
             PageSize page) {
  // The memory of `unit`, and of those behind it up to the next blocked one.
  { p.At(unit) } -> std::same_as<std::byte*>;
  // The unit that begins at `memory`; kNoUnit when none does.
  { p.UnitOf(memory) } -> std::same_as<std::uint64_t>;
  // The first unit from `unit` on that is aligned to `page`, or any number past
  // the end. Bounded.
  { p.NextAligned(unit, page) } -> std::same_as<std::uint64_t>;
};

// `units` units in a row from `base`, which is aligned to one.
struct ArenaPlace {
  std::byte* base = nullptr;
  PageSize unit;
  std::uint64_t units = 0;

  std::byte* At(std::uint64_t i) const { return base + (i << unit.shift()); }
  std::uint64_t UnitOf(const std::byte* memory) const {
    const std::uint64_t offset = PhysAddrOf(memory) - PhysAddrOf(base);
    if (!unit.IsAligned(offset)) return kNoUnit;
    const std::uint64_t i = offset >> unit.shift();
    return i < units ? i : kNoUnit;
  }
  std::uint64_t NextAligned(std::uint64_t i, PageSize page) const {
    if (page.shift() <= unit.shift() || i >= units) return i;
    const std::uint64_t at = PhysAddrOf(At(i)).value();
    const Result<std::uint64_t> up = page.RoundUp(at);
    return up.ok() ? i + ((*up - at) >> unit.shift()) : kNoUnit;
  }
};
static_assert(UnitPlace<ArenaPlace>);

// Units [first, first + count) of a stretch, which belong to the caller.
struct PageBlock {
  std::byte* data = nullptr;
  std::uint64_t bytes = 0;
  std::uint64_t first = 0;
  std::uint64_t count = 0;
  std::uint64_t old = 0;    // units of it that may hold old bytes
  std::uint64_t pages = 0;  // as the caller counts them; 0 for a trimmed block

  void Zero() const { std::memset(data, 0, static_cast<std::size_t>(bytes)); }
};

template <UnitPlace Place, class Policy>
class CarvedPages {
 public:
  explicit CarvedPages(std::uint64_t budget = PageBudget::kNoBudget)
      : budget_(budget) {}

  // The parts of a stretch that is to be opened or was closed.
  struct Stretch {
    Place place;
    PageSize unit;
    std::unique_ptr<PageRuns> runs;
  };

  bool is_open() const {
    Guard guard(lock_);
    return stretch_.runs != nullptr;
  }
  // kBusy when one is open.
  Result<void> Open(Stretch&& stretch) {
    Guard guard(lock_);
    if (stretch_.runs != nullptr) return Error::kBusy;
    stretch_ = std::move(stretch);
    return Ok();
  }
  // Ends it. kShutDown when none is open; kBusy while a block is out.
  Result<Stretch> Close() {
    Guard guard(lock_);
    if (stretch_.runs == nullptr) return Error::kShutDown;
    if (stretch_.runs->units_out() != 0) return Error::kBusy;
    Stretch closed = std::move(stretch_);
    stretch_ = Stretch();
    return closed;
  }

  // Whether a unit of an open stretch begins at `memory`.
  bool Holds(const std::byte* memory) const {
    Guard guard(lock_);
    return stretch_.runs != nullptr && stretch_.place.UnitOf(memory) != kNoUnit;
  }

  void set_budget(std::uint64_t bytes) { budget_.set(bytes); }
  const auto& budget() const { return budget_; }

  // A block for `pages` pages, rounded up to units; not zeroed. As Allocate of
  // a PageSource, but that kShutDown says that no stretch is open.
  Result<PageBlock> Take(PageSize page, std::uint64_t pages) {
    if (pages == 0) return Error::kInvalidArgument;
    if (pages > (std::numeric_limits<std::size_t>::max() >> 1) / page.bytes()) {
      return Error::kOverflow;
    }
    for (;;) {
      std::uint64_t returns = 0;
      bool wait = false;
      const Result<PageBlock> block = TryTake(page, pages, &wait, &returns);
      if (!wait) return block;
      // A block is on its way: another thread is inside Free or Trim.
      while (Returns() == returns) AtomRelax<Policy::template Atom>();
    }
  }

  // The block that Take gave for the same arguments; kForeign, counted, when
  // there is no such block out. It belongs to the caller until EndGive.
  Result<PageBlock> BeginGive(const std::byte* memory, PageSize page,
                              std::uint64_t pages) {
    Guard guard(lock_);
    PageBlock block;
    if (!FindBlock(memory, page, pages, &block) ||
        !stretch_.runs->BeginGive(block.first, block.count)) {
      budget_.NoteBadFree();
      return Error::kForeign;
    }
    ++under_way_;
    return block;
  }
  // kNoMemory: nobody had the block, because there was no memory for it.
  enum class Why : std::uint8_t { kFreed, kNoMemory };
  void EndGive(const PageBlock& block, UnitContents contents,
               Why why = Why::kFreed) {
    {
      Guard guard(lock_);
      stretch_.runs->EndGive(block.first, block.count, contents);
      --under_way_;
      // relaxed: only says that it is worth another look, under the lock.
      returns_.fetch_add(1, std::memory_order_relaxed);
    }
    // After the units: who finds room in the budget finds room for the block.
    if (block.pages == 0) return;
    if (why == Why::kFreed) {
      budget_.Give(block.bytes, block.pages);
    } else {
      budget_.Refuse(block.bytes, block.pages);
    }
  }

  // Takes units [first, first + count) if all of them are free, some are old,
  // and more than `keep` bytes are kept; kNotMapped. The caller ends it with
  // EndGive. REQUIRES: open, within the stretch.
  Result<PageBlock> BeginTrim(std::uint64_t first, std::uint64_t count,
                              std::uint64_t keep) {
    Guard guard(lock_);
    return TrimHere(first, count, keep);
  }
  // The same for the first row of old free units from *from on, of at most
  // `most` units. *from becomes the unit behind it. kNotMapped at the end.
  Result<PageBlock> BeginTrimNext(std::uint64_t* from, std::uint64_t most) {
    Guard guard(lock_);
    if (stretch_.runs == nullptr) return Error::kShutDown;
    const std::uint64_t first = stretch_.runs->FindOld(*from);
    if (first == stretch_.runs->units()) return Error::kNotMapped;
    *from = stretch_.runs->EndOfOld(first, first + most);
    return TrimHere(first, *from - first, 0);
  }

  // Bytes of free units that may hold old bytes.
  std::uint64_t kept() const {
    Guard guard(lock_);
    return Kept();
  }
  PageSourceStats stats() const {
    PageSourceStats s = budget_.stats();
    s.kept = kept();
    return s;
  }

  // f(memory, bytes) for each block that is out, in order. f must not use the
  // source.
  template <class F>
  void ForEachOut(F&& f) const {
    Guard guard(lock_);
    if (stretch_.runs == nullptr) return;
    stretch_.runs->ForEachRun([&](std::uint64_t first, std::uint64_t count) {
      if (stretch_.runs->IsRun(first, count)) {
        f(stretch_.place.At(first), count << stretch_.unit.shift());
      }
    });
  }

  // REQUIRES: nobody else uses the object.
  bool CheckInvariants() const {
    if (!budget_.CheckInvariants() || under_way_ != 0) return false;
    if (stretch_.runs == nullptr) return budget_.in_use() == 0;
    return stretch_.runs->CheckInvariants() &&
           stretch_.runs->units_out() << stretch_.unit.shift() ==
               budget_.in_use();
  }

 private:
  using Guard = dmamap::Guard<typename Policy::LockType>;

  std::uint64_t Kept() const {
    return stretch_.runs == nullptr
               ? 0
               : stretch_.runs->old_units() << stretch_.unit.shift();
  }

  PageBlock BlockAt(std::uint64_t first, std::uint64_t count) const {
    PageBlock block;
    block.data = stretch_.place.At(first);
    block.bytes = count << stretch_.unit.shift();
    block.first = first;
    block.count = count;
    return block;
  }

  std::uint64_t Returns() const {
    return returns_.load(std::memory_order_relaxed);  // relaxed: as in EndGive
  }

  // *wait: there is no room, but a block is under way; it has come back when
  // Returns() is no longer *returns.
  Result<PageBlock> TryTake(PageSize page, std::uint64_t pages, bool* wait,
                            std::uint64_t* returns) {
    Guard guard(lock_);
    if (stretch_.runs == nullptr) return Error::kShutDown;
    const std::uint64_t count = stretch_.unit.PagesFor(pages * page.bytes());
    const std::uint64_t bytes = count << stretch_.unit.shift();
    if (const Result<void> r = budget_.Take(bytes, pages); !r.ok()) {
      return r.error();
    }
    const Result<PageRuns::Taken> taken = stretch_.runs->Take(
        count,
        [&](std::uint64_t i) { return stretch_.place.NextAligned(i, page); });
    if (!taken.ok()) {
      *wait = under_way_ != 0;
      *returns = Returns();
      if (*wait) {
        budget_.Give(bytes, pages);
      } else {
        budget_.Refuse(bytes, pages);
      }
      return taken.error();
    }
    budget_.Commit();
    PageBlock block = BlockAt(taken->first, count);
    block.old = taken->old;
    block.pages = pages;
    return block;
  }

  bool FindBlock(const std::byte* memory, PageSize page, std::uint64_t pages,
                 PageBlock* block) const {
    if (stretch_.runs == nullptr || memory == nullptr || pages == 0) {
      return false;
    }
    if (pages > (std::numeric_limits<std::size_t>::max() >> 1) / page.bytes()) {
      return false;
    }
    const std::uint64_t first = stretch_.place.UnitOf(memory);
    if (first == kNoUnit) return false;
    *block = BlockAt(first, stretch_.unit.PagesFor(pages * page.bytes()));
    block->pages = pages;
    return true;
  }

  Result<PageBlock> TrimHere(std::uint64_t first, std::uint64_t count,
                             std::uint64_t keep) {
    if (stretch_.runs == nullptr || Kept() <= keep) return Error::kNotMapped;
    const std::uint64_t old = stretch_.runs->BeginTrim(first, count);
    if (old == 0) return Error::kNotMapped;
    ++under_way_;
    PageBlock block = BlockAt(first, count);
    block.old = old;
    return block;
  }

  mutable typename Policy::LockType lock_;
  Stretch stretch_;              // lock_
  std::uint64_t under_way_ = 0;  // lock_; blocks between Begin... and EndGive
  typename Policy::template Atom<std::uint64_t> returns_{
      0};  // how many EndGive
  BasicPageBudget<Policy::template Atom> budget_;
};

}  // namespace internal

}  // namespace dmamap::inline v0

#endif  // DMAMAP_BOUNCE_CARVED_PAGES_H_
