// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_BOUNCE_H_
#define DMAMAP_BOUNCE_BOUNCE_H_

// Bounce: pages that the device sees in place of the real buffer.
//
// The I/O address space [0, size) is divided into slots (the unit that an
// allocator hands out) and pages (the unit of memory; one slot or more). A
// mapping owns whole slots; its *body*, the bytes of the buffer, lies somewhere
// in them, and what is left in front of it and behind it is padding:
//
//   slots   |................|................|      one BounceBuffer
//   body        |=====================|
//           pad                        pad           nobody's bytes
//
// A page is made when a device first touches it (Touch: zeroed, filled from
// each mapping on it, then published) and is kept for later mappings. So Show,
// which a new mapping calls, overwrites what was copied to its slots before, on
// the pages that are there (guarantees 1, 3); what is on no page yet is filled
// when the page comes. What a device itself wrote beside its mappings is not
// secret from it, and may stay until the page goes.
//
// With one slot a page, a page is never shared: a device sees one buffer there.
// With larger pages, mappings of the same table share.
//
//   Prepare, Show, Admit                          a mapping is made
//   Retract or SettleAll, CopyOut, ..., Vacate    and ends
//
// Thread-safe; each mapping is made by one thread and ended by one, which the
// slot's word decides (slot.h). page_table.h says what may race, and how it is
// kept right. Copies block only in the MemoryAccess.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "bounce/copy.h"
#include "bounce/memory_access.h"
#include "bounce/page_source.h"
#include "bounce/page_table.h"
#include "bounce/slot.h"
#include "bounce/swappable_pages.h"
#include "dma/address.h"
#include "dma/assert.h"
#include "dma/asymmetric_fence.h"
#include "dma/atom.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

// The rule for Map (guarantee 2): the original is copied in, for kFromDevice
// too, unless the caller said that it syncs by hand or that the device
// overwrites all of it.
constexpr BounceFill FillFor(Direction direction, MapAttributes attributes) {
  const bool overwritten = direction == Direction::kFromDevice &&
                           Has(attributes, MapAttributes::kDeviceOverwritesAll);
  return overwritten || Has(attributes, MapAttributes::kSkipSync)
             ? BounceFill::kZero
             : BounceFill::kOriginal;
}

// The rule for Unmap: only what a device was allowed to write comes back.
constexpr bool DrainsFor(Direction direction, MapAttributes attributes) {
  return DeviceWrites(direction) && !Has(attributes, MapAttributes::kSkipSync);
}

struct BounceOptions {
  std::uint64_t size = 0;  // bytes from I/O address 0; whole pages, not 0
  PageSize page = PageSize();
  PageSize slot = PageSize();  // at most a page
  // Tags count up from here, each slot's apart, and are never 0.
  std::uint32_t first_tag = 1;
};

template <PageSource Source, MemoryAccess Memory,
          template <class> class Atom = std::atomic,
          AsymmetricFence Fence = SymmetricFence<Atom>>
class Bounce {
 public:
  using Table = BouncePageTable<Source, Atom>;
  using Slot = typename Table::Slot;

  // A mapping as it was found.
  struct Shown {
    Slot* slot = nullptr;  // the first
    SlotWord word;
    BounceBuffer b;
  };

  Bounce(Source& source, Memory& memory) : table_(source), memory_(memory) {}

  // kInvalidArgument for a size that is 0 or not whole pages, or what
  // BouncePageTable::Init refuses. kBusy the second time.
  Result<void> Init(const BounceOptions& options);

  PageSize page() const { return table_.page(); }
  PageSize slot() const { return table_.slot(); }
  bool shares_pages() const { return slot() != page(); }

  // --- A mapping from its making to its end ---

  // Memory for the records of `slots`; the first one's. kNoMemory, kOutOfRange.
  [[gnu::always_inline]] Result<Slot*> Prepare(Range slots) {
    return table_.Prepare(NumberOf(slots.first()), NumberOf(slots.last()));
  }

  // Records `b` in `first` and fills the pages that are there: from now on
  // faults show it (kFilling). kUnsupported when memory cannot be reached: then
  // Retract. REQUIRES: Prepare(b.slots) returned `first`; the slots are the
  // caller's. Adds the bytes copied to `*bytes` (so do all calls that take it).
  Result<void> Show(Slot& first, const BounceBuffer& b, std::uint64_t* bytes) {
    return Show(first, WordAfter(Own(first, b.slots).tag()), b, bytes);
  }
  // The same in two steps. `word`: WordAfter what Own returned; or after a
  // mapping of the same slots, if they were the caller's ever since.
  [[gnu::always_inline]] inline SlotWord Own(Slot& first, Range slots);
  [[gnu::always_inline]] inline Result<void> Show(Slot& first, SlotWord word,
                                                  const BounceBuffer& b,
                                                  std::uint64_t* bytes);
  // Whether they are all free, and own as Own leaves it. REQUIRES: nobody else
  // uses the table.
  bool AreOwned(Range slots) const;
  // The same as Show for a mapping of one slot on a page of its own: `size`
  // bytes, shape.head() behind the slot's first. `word`: WordAfter the slot's,
  // which is free.
  [[gnu::always_inline]] inline Result<void> ShowSlot(Slot& slot, SlotWord word,
                                                      std::uint64_t size,
                                                      PhysAddr buffer,
                                                      SlotShape shape,
                                                      std::uint64_t* bytes);
  // The word that a slot's next mapping begins with; `before`: the last one's
  // tag, in its free word.
  SlotWord WordAfter(std::uint32_t before) const {
    const std::uint32_t tag = before + 1;
    return SlotWord(tag > 1 ? tag : first_tag_, SlotState::kFilling);
  }
  // It: an address may be handed out again before its last word is written.
  SlotWord AwaitFree(const Slot& slot) const;
  // Lets the device use what was shown; its tag. REQUIRES: Show succeeded.
  std::uint32_t Admit(Slot& first);
  // The same by one who knows the word.
  std::uint32_t Admit(Slot& first, SlotWord word);

  // Takes back what was shown and not admitted, up to kEnding.
  void Retract(Slot& first, Range slots);
  // Waits until no fault reads the mapping of `slots` any more. REQUIRES: its
  // word is kEnding, by a sequentially consistent read-modify-write.
  void SettleAll(Range slots) const {
    table_.EachPage(page().Number(slots.first()), page().Number(slots.last()),
                    [this](std::uint64_t, const Slot& first) {
                      (void)table_.SettleAt(first);
                    });
  }
  // The same for a mapping of one slot on a page of its own; the page's memory,
  // or nullptr.
  std::byte* SettleSlot(const Slot& slot) const {
    return table_.SettleAt(slot);
  }
  // The last step, after which the slot is another's, or nobody's for ever.
  void Vacate(Slot& first, SlotState to);
  // The same by one who knows the word and what it becomes.
  void Vacate(Slot& first, SlotWord to);

  // --- Looking ---

  [[gnu::always_inline]] Slot* SlotAt(Iova at) const {
    return table_.FindSlot(NumberOf(at));
  }

  // The mapping whose slots hold `at`, in any state but kFree; kNotMapped.
  Result<Shown> Look(Iova at) const { return LookAt(NumberOf(at)); }

  // The fields of a slot that said `word`. False when it says something else by
  // now: then they are worth nothing.
  bool Read(Iova slot_first, Slot& slot, SlotWord word, Shown& found) const;

  // f(const Shown&) for each mapping that is shown on the page of `at`.
  template <class F>
  void ForEachShown(Iova at, F&& f) const;
  // f(const Shown&) for each mapping of any state but kFree, in order.
  template <class F>
  void ForEachMapping(F&& f) const;

  // The page that holds `at`, or nullptr; its range of I/O addresses.
  std::byte* PageAt(Iova at) const { return table_.Find(page().Number(at)); }
  Range PageRange(Iova at) const {
    return Range::Byte(at).RoundOutToPages(page());
  }

  // --- Pages ---

  // The page of `at`, made and filled from what is shown on it if need be;
  // *made says whether. `allowed()` -> Result<void> is asked first, and again
  // when the page is made. REQUIRES: it refuses where nothing was Prepare()d.
  // Fails as it does, as the source does, with kUnsupported when a buffer
  // cannot be reached, or with kBusy while SwapPages moves the page.
  template <class Allowed>
  Result<std::byte*> Touch(Iova at, Allowed&& allowed, bool* made,
                           std::uint64_t* bytes);

  // Gives the pages of `pages` back; how many. kBusy, and nothing is given
  // back, while one of them has a mapping (one that comes meanwhile keeps its
  // own page and is kBusy too); kOutOfRange beyond the table; kInvalidArgument
  // unless whole pages.
  Result<std::uint64_t> Reclaim(Range pages);
  // Gives back every page that has no mapping; how many.
  std::uint64_t ReclaimIdle();

  // Moves every page to memory of `to` (swappable_pages.h), under live mappings
  // and without losing a byte; how many. invalidate(range) -> Result<void>
  // returns when no device uses an address of it any more that it found by
  // Touch, nor will. Blocks while a call uses a page, each time for that one.
  // As BeginSwap fails: then nothing has changed. Else as `invalidate` fails,
  // or kDevice for a page with a mapping in quarantine: pages that a device may
  // still write to stay where they are, the others have moved; call it again.
  template <class Invalidate>
  Result<std::uint64_t> SwapPages(PageHome to, Invalidate&& invalidate);

  // f(range of the page, its memory) for each page that is there.
  template <class F>
  void ForEachPage(F&& f) const {
    table_.ForEachPage([&](std::uint64_t index, std::byte* data) {
      f(PageRange(Iova(index << page().shift())), data);
    });
  }

  // --- Contents ---

  // Zeros what was copied to `slots` on the pages that are there. REQUIRES:
  // their mapping has ended.
  void Scrub(Range slots);

  // CopyOut for bytes of one page, whose memory is `page_data`.
  [[gnu::always_inline]] Result<void> CopyPartOut(const std::byte* page_data,
                                                  Iova at, PhysAddr buffer,
                                                  std::uint64_t size) {
    return CopyToMemory(memory_, buffer, page_data + page().Offset(at.value()),
                        static_cast<std::size_t>(size));
  }

  // Copies buffer to pages (CopyIn) or pages to buffer (CopyOut) for `part`,
  // whose first byte is at `buffer`; skips pages that are not there, since no
  // device ever saw them, and CopyOut those that show nothing of the mapping.
  // CopyIn waits for a page that is being made, and
  // REQUIRES that the caller's pin comes before it in the order.
  Result<void> CopyIn(Range part, PhysAddr buffer, std::uint64_t* bytes);
  Result<void> CopyOut(Range part, PhysAddr buffer, std::uint64_t* bytes);
  // Whether the page of a mapping's slot, which is there, was filled from the
  // mapping: not if it was made as the mapping ended. REQUIRES: the slot is the
  // mapping's, and its page was looked up before.
  static bool WasFilled(const Slot& slot) { return slot.dirty_end != 0; }

  // REQUIRES: nobody else uses the table. Each page is aligned, and no slot
  // belongs to two mappings.
  bool CheckInvariants() const;

 private:
  // Pages that are taken at a time, so that one heavy fence serves them all.
  struct Sweep {
    bool only_look = false;
    std::uint64_t freed = 0;
    std::uint64_t busy = 0;
    std::size_t locked = 0;
    std::array<std::uint64_t, 64> page = {};
  };

  static std::size_t Size(Range r) {
    return static_cast<std::size_t>(r.size());
  }
  std::uint64_t NumberOf(Iova at) const { return slot().Number(at); }
  Iova IovaOf(std::uint64_t n) const { return Iova(n << slot().shift()); }
  std::byte* At(std::byte* page_data, Iova at) const {
    return page_data + page().Offset(at.value());
  }

  Result<Shown> LookAt(std::uint64_t n) const;

  [[gnu::noinline]] void OwnSlots(std::uint64_t first, std::uint64_t last);

  // Writes a record, whose slots are free, and then the word.
  void Record(Slot& first, SlotWord word, std::uint64_t size, PhysAddr buffer,
              SlotShape shape);

  // Readies one slot for new bytes in [begin, end), from its first byte, which
  // is at `data`: zeros what was copied outside.
  [[gnu::always_inline]] static void Tidy(Slot& slot, std::byte* data,
                                          std::uint32_t begin,
                                          std::uint32_t end) {
    if (slot.dirty_first == begin && slot.dirty_end == end) return;
    TidyOther(slot, data, begin, end);  // not as a ring's buffers
  }
  [[gnu::noinline]] static void TidyOther(Slot& slot, std::byte* data,
                                          std::uint32_t begin,
                                          std::uint32_t end);
  // The same for slot `n`, on a page at `page_data`, and its part of `body`.
  void TidyFor(Slot& slot, std::uint64_t n, std::byte* page_data,
               Range body) const;
  void TidyPart(Range part, std::byte* page_data, Range body) const;
  // Body bytes to one piece of host memory.
  Result<void> Write(Range piece, std::byte* data, const BounceBuffer& b,
                     std::uint64_t* bytes);

  [[gnu::noinline]] Result<void> Fill(const BounceBuffer& b,
                                      std::uint64_t* bytes);
  // A page that nobody sees yet, from all that is shown on it. REQUIRES: Lock.
  Result<void> FillNew(Iova at, std::byte* page_data, std::uint64_t* bytes);

  static std::byte* FindPage(std::uint64_t, const Slot& first) {
    return Table::FindAt(first);
  }
  // f(piece, its memory) -> Result<void> for each run of `range` that lies in
  // one piece in host memory, on the pages that are there; ends at the first
  // error. page_of(index, first Slot&) -> memory or nullptr: once for each page
  // up to there, in order.
  template <class PageOf, class F>
  Result<void> ForEachRun(Range range, PageOf&& page_of, F&& f);

  // Of the mappings on a page that the caller has: nobody works on them; some
  // call may hold its address; one is in quarantine.
  enum class PageUse { kStill, kMoving, kForEver };
  PageUse UseOf(std::uint64_t index, Shown* mover) const;
  template <class Invalidate>
  Result<bool> SwapPage(std::uint64_t index, PageHome to,
                        Invalidate&& invalidate);

  // Holds until Unlock, if the caller has the page.
  bool InUse(std::uint64_t index) const;
  void SweepIdle(std::uint64_t first, std::uint64_t last, Sweep& sweep);
  void FreeIdle(Sweep& sweep);

  Table table_;
  Memory& memory_;
  std::uint32_t first_tag_ = 1;
};

}  // namespace dmamap::inline v0

#include "bounce/bounce_copy.h"    // IWYU pragma: export
#include "bounce/bounce_look.h"    // IWYU pragma: export
#include "bounce/bounce_pages.h"   // IWYU pragma: export
#include "bounce/bounce_record.h"  // IWYU pragma: export
#include "bounce/bounce_swap.h"    // IWYU pragma: export

#endif  // DMAMAP_BOUNCE_BOUNCE_H_
