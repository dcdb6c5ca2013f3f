// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_POOL_SPACE_H_
#define DMAMAP_DOMAIN_POOL_SPACE_H_

// PoolSpace: buffers that are copied to pages which the device's tables always
// map, so that a mapping costs a copy and no invalidation (Markuze, Morrison,
// Tsafrir: True IOMMU Protection from DMA Attacks: When Copy Is Faster Than
// Zero Copy, ASPLOS 2016). An inner header; domain.h says what each call
// promises.
//
//   window   | both: read and write | to device: read | from device: write |
//
// A page gets its memory and its place in the tables when it is first used, and
// keeps both, with the permission of its part of the window: a device never may
// more in a page than the mapping there allows. What a mapping leaves on its
// page is seen by the device alone that has seen it, until the page's next
// mapping, which overwrites it; what it does not cover becomes zero.
//
// What is given up: a device that writes after an Unmap finds the page, and
// what it writes then may be read by the page's next owner, a mapping of the
// same domain in the same direction. Nothing else is in its reach.
//
// Every page of a mapping is held by its word (bounce/slot.h): the first as any
// mapping's, those behind it as kFilling without a size. ReclaimIdle holds a
// page as kEnding while it takes it out of the tables.

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "bounce/bounce.h"
#include "bounce/copy.h"
#include "bounce/slot.h"
#include "dma/address.h"
#include "dma/atom.h"
#include "dma/direction.h"
#include "dma/iommu_map.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "domain/checker.h"
#include "domain/claim.h"
#include "domain/core.h"
#include "domain/options.h"
#include "domain/slot_table.h"
#include "domain/validate.h"

namespace dmamap::inline v0 {
namespace internal {

// A page of the pool, and the record of the mapping that begins on it.
template <template <class> class Atom = std::atomic>
struct alignas(kCacheLine) PoolSlot {
  Atom<std::uint64_t> word{0};
  Atom<std::uint64_t> size{0};
  Atom<std::uint64_t> buffer{0};
  Atom<std::uint64_t> shape{0};
  // Who has the word has the rest.
  PlainFor<Atom, std::byte*> memory{nullptr};
  PlainFor<Atom, bool> mapped{false};  // in the tables
  PlainFor<Atom, bool> ready{false};   // and the device may use them (SyncMap)
  // What was copied here, or zeroed for a mapping: [dirty_first, dirty_end).
  PlainFor<Atom, std::uint32_t> dirty_first{0};
  PlainFor<Atom, std::uint32_t> dirty_end{0};
};

template <class Policies>
class PoolSpace {
  using Core = DomainCore<Policies>;
  using Table =
      SlotTable<PoolSlot<Policies::template Atom>, Policies::template Atom>;
  using Checker = StreamChecker<Table, Policies::kCheckMappings>;
  using Slot = typename Table::Slot;
  static_assert(IommuMap<typename Policies::Invalidation>);

 public:
  using Shown = typename Table::Shown;

  explicit PoolSpace(Core& core) : core_(core), checker_(table_) {}
  // REQUIRES: no device can reach it any more.
  ~PoolSpace() {
    table_.ForEachSlot([this](Iova, Slot& slot) {
      std::byte* const memory = slot.memory;
      if (memory != nullptr) core_.pages.Free(memory, page_, 1);
    });
  }

  // REQUIRES: Domain::Init checked the options; `window` is whole pages.
  // kInvalidArgument for less than three.
  Result<void> Init(const DomainOptions& o, Range window) {
    page_ = o.page;
    min_align_mask_ = o.min_align_mask;
    Core::Fence::Prepare();
    const std::uint64_t pages = window.PagesTouchedMinusOne(page_) + 1;
    if (pages < 3) return Error::kInvalidArgument;
    // A power of two, and on a multiple of it: the allocator's largest blocks
    // fit. So what the device writes, the last part, has half of the window.
    const std::uint64_t part = std::bit_floor(pages / 3) << page_.shift();
    if (const auto r = table_.Init(window, page_, Checker::FirstTag());
        !r.ok()) {
      return r;
    }
    Iova first = window.first();
    for (std::size_t i = 0; i < iova_.size(); ++i) {
      const Iova last = i + 1 < iova_.size()
                            ? Iova((first.value() / part + 1) * part - 1)
                            : window.last();
      const Range own = *Range::FromFirstLast(first, last);
      const auto r =
          iova_[i].Init({.window = own,
                         .page = page_,
                         .reserved = ReservedBy(core_.invalidation)});
      if (!r.ok()) return r;
      first = last + 1;
    }
    return Ok();
  }

  Result<Mapping> Map(PhysAddr buffer, std::uint64_t size, Direction direction,
                      MapAttributes attributes);
  // As IommuSpace has them.
  bool Owns(const Mapping& m) const { return table_.window().Contains(m.iova); }
  Result<void> Take(const Mapping& mapping, SlotState to) {
    const auto taken = checker_.Take(mapping, to);
    return taken.ok() ? Ok() : Result<void>(taken.error());
  }
  void Become(const Mapping& mapping, SlotState to) {
    table_.Become(*table_.SlotAt(mapping.iova), to);
  }
  Result<void> Finish(std::span<const Mapping> mappings,
                      MapAttributes attributes);
  Result<void> Unmap(std::span<const Mapping> mappings,
                     MapAttributes attributes) {
    if (!AreKnown(attributes)) return Error::kInvalidArgument;
    const auto claimed = ClaimAll(
        mappings, [&](const Mapping& m, SlotState to) { return Take(m, to); },
        [&](const Mapping& m, SlotState to) { Become(m, to); });
    return claimed.ok() ? Finish(mappings, attributes)
                        : core_.RefuseStream(claimed.error());
  }
  Result<void> SyncForCpu(const Mapping& mapping, std::uint64_t offset,
                          std::uint64_t size);
  Result<void> SyncForDevice(const Mapping& mapping, std::uint64_t offset,
                             std::uint64_t size);

  void AddTo(RefusedCalls& calls) const { checker_.AddTo(calls); }

  // Gives back the memory of every page that no mapping is on, after one
  // invalidation for 64 of them; how many.
  std::uint64_t ReclaimIdle();

  template <class F>
  void ForEachMapping(F&& f) const {
    table_.ForEachMapping(f);
  }
  bool IsInUse() const {
    bool used = false;
    ForEachMapping([&](const Shown& m) {
      used = used || m.word.state() != SlotState::kQuarantined;
    });
    return used;
  }
  // Gives up every live mapping: its pages leave the tables and stay taken.
  // REQUIRES: no other call is under way; an invalidation follows.
  void Abandon() {
    ForEachMapping([this](const Shown& m) {
      if (!m.word.is_live()) return;
      const Iova first = m.b.slots.first();
      for (std::uint64_t i = Pages(*m.slot); i-- > 0;) {
        const Iova at = first + (i << page_.shift());
        TakeOut(*table_.SlotAt(at), at);
      }
      core_.CountQuarantined();
      core_.counters.CountUnmap(0);
      table_.Become(*m.slot, SlotState::kQuarantined);
    });
  }
  // REQUIRES: no call is under way.
  bool CheckInvariants() const;

 private:
  struct Sweep;

  static std::size_t KindOf(Direction d) { return static_cast<std::size_t>(d); }
  std::uint64_t Pages(const Slot& first) const {
    // relaxed: the caller has the word.
    return page_.PagesFor(ShapeOf(first).head() +
                          first.size.load(std::memory_order_relaxed));
  }
  Range BodyOf(const Slot& slot, Iova at) const {
    return *Range::FromSize(
        Iova(page_.RoundDown(at.value())) + ShapeOf(slot).head(),
        slot.size.load(std::memory_order_relaxed));  // as above
  }

  // Holds the slots of a mapping, with memory that is in the tables; or has
  // undone all but the memory.
  Result<Slot*> Hold(Iova first, std::uint64_t pages, std::uint64_t size,
                     PhysAddr buffer, SlotShape shape);
  Result<void> Furnish(Slot& slot, Iova at, Permission permission);
  Result<void> Enter(Slot& slot, Range page, Permission permission);
  void LetGo(Iova first, std::uint64_t pages);
  void Scrub(Iova first, std::uint64_t pages);
  bool TakeOut(Slot& slot, Iova at);
  Result<void> EndOne(const Mapping& mapping, MapAttributes attributes);
  void FreeIdle(Sweep& sweep);

  // f(slot, offset in its page, offset in the body, bytes) -> Result<void> for
  // the piece of `part` on each page.
  template <class F>
  Result<void> ForEachPiece(Range body, Range part, F&& f) const;
  Result<void> CopyIn(const Slot& first, Range body, Range part,
                      std::uint64_t* bytes);
  Result<void> CopyOut(const Slot& first, Range body, Range part,
                       std::uint64_t* bytes);
  Result<void> Fill(const Slot& first, Range body, std::uint64_t* bytes);

  Core& core_;
  Table table_;
  Checker checker_;
  std::array<typename Policies::Allocator, 3> iova_;  // by Direction
  PageSize page_;
  std::uint64_t min_align_mask_ = 0;
};

}  // namespace internal
}  // namespace dmamap::inline v0

#include "domain/pool_reclaim.h"  // IWYU pragma: export
#include "domain/pool_use.h"      // IWYU pragma: export

#endif  // DMAMAP_DOMAIN_POOL_SPACE_H_
