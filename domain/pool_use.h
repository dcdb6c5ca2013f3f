// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_POOL_USE_H_
#define DMAMAP_DOMAIN_POOL_USE_H_

// The members of pool_space.h but for what gives pages back (pool_reclaim.h).
// Included by it alone.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "domain/pool_space.h"

namespace dmamap::inline v0 {
namespace internal {

template <class Policies>
Result<Mapping> PoolSpace<Policies>::Map(PhysAddr buffer, std::uint64_t size,
                                         Direction direction,
                                         MapAttributes attributes) {
  const auto valid = ValidateMap(buffer, size, direction, attributes);
  if (!valid.ok()) return valid.error();
  const std::uint64_t head = buffer.value() & min_align_mask_;
  const SlotShape shape(head, FillFor(direction, attributes), direction,
                        Has(attributes, MapAttributes::kDeviceOverwritesAll));
  // A size this close to 2^64 has too many pages to be found.
  if (size > Iova::Max() - Iova(head)) return Error::kNoSpace;
  const std::uint64_t pages = page_.PagesFor(head + size);
  auto& iova = iova_[KindOf(direction)];
  if (!core_.TakeQuota()) return Error::kLimit;
  const Result<Iova> first = iova.Allocate(pages);
  if (!first.ok()) {
    core_.GiveQuota();
    return first.error();
  }
  const Result<Slot*> slot = Hold(*first, pages, size, buffer, shape);
  Result<void> done = slot.ok() ? Ok() : Result<void>(slot.error());
  std::uint64_t bytes = 0;
  if (done.ok()) {
    // The record before the phase (Domain::Shutdown has it the other way).
    Core::Fence::Light();
    done = Fill(**slot, BodyOf(**slot, *first), &bytes);
    // seq_cst: after the record, for a Shutdown that looks at it.
    if (done.ok() && !core_.IsOpen(std::memory_order_seq_cst)) {
      done = Error::kShutDown;
    }
    if (done.ok()) {
      core_.counters.CountMap(direction, bytes);
      return Mapping{*first + head, size, direction,
                     table_.Become(**slot, SlotState::kLive)};
    }
    Scrub(*first, pages);
    LetGo(*first, pages);
  }
  (void)iova.Free(*first, pages).ok();
  core_.GiveQuota();
  return done.error();
}

template <class Policies>
auto PoolSpace<Policies>::Hold(Iova first, std::uint64_t pages,
                               std::uint64_t size, PhysAddr buffer,
                               SlotShape shape) -> Result<Slot*> {
  const Permission permission = PermissionFor(shape.direction());
  Slot* record = nullptr;
  for (std::uint64_t i = 0; i < pages; ++i) {
    const Iova at = first + (i << page_.shift());
    const Result<Slot*> slot = table_.Ensure(at);
    Result<void> held = slot.ok() ? Ok() : Result<void>(slot.error());
    if (held.ok()) {
      // Nobody has the address; a ReclaimIdle may have the page for a while.
      while (!table_.Begin(**slot, i == 0 ? size : 0, buffer, shape)) {
        AtomRelax<Policies::template Atom>();
      }
      if (i == 0) record = *slot;
      held = Furnish(**slot, at, permission);
      if (!held.ok()) table_.Become(**slot, SlotState::kFree);
    }
    if (!held.ok()) {
      LetGo(first, i);
      return held.error();
    }
  }
  return record;
}

template <class Policies>
Result<void> PoolSpace<Policies>::Furnish(Slot& slot, Iova at,
                                          Permission permission) {
  if (slot.ready) [[likely]]
    return Ok();
  const Range page = Range::Byte(at).RoundOutToPages(page_);
  if (!slot.mapped) {
    const Result<void> entered = Enter(slot, page, permission);
    if (!entered.ok()) return entered;
  }
  const Result<void> done = core_.invalidation.SyncMap(page);
  slot.ready = done.ok();
  return done;
}

// Into the tables, with memory.
template <class Policies>
Result<void> PoolSpace<Policies>::Enter(Slot& slot, Range page,
                                        Permission permission) {
  std::byte* memory = slot.memory;
  const bool fresh = memory == nullptr;
  if (fresh) {
    Result<std::byte*> made = core_.pages.Allocate(page_, 1);
    if (!made.ok() && ReclaimIdle() != 0) made = core_.pages.Allocate(page_, 1);
    if (!made.ok()) return made.error();
    memory = *made;
    slot.dirty_first = 0;
    slot.dirty_end = 0;
  }
  const Result<void> done =
      core_.invalidation.Map(page, PhysAddrOf(memory), permission);
  slot.mapped = done.ok();
  // What was in the tables stays the page's: a device may have seen it there.
  slot.memory = done.ok() || !fresh ? memory : nullptr;
  if (!done.ok() && fresh) core_.pages.Free(memory, page_, 1);
  return done;
}

// False: it is in the tables still. REQUIRES: the caller has the word.
template <class Policies>
bool PoolSpace<Policies>::TakeOut(Slot& slot, Iova at) {
  if (slot.mapped) {
    const Range page = Range::Byte(at).RoundOutToPages(page_);
    if (!core_.invalidation.Unmap(page).ok()) return false;
    slot.mapped = false;
    slot.ready = false;
  }
  return true;
}

// Nothing of what was copied to these pages is left there. REQUIRES: held.
template <class Policies>
void PoolSpace<Policies>::Scrub(Iova first, std::uint64_t pages) {
  for (std::uint64_t i = 0; i < pages; ++i) {
    Slot& slot = *table_.SlotAt(first + (i << page_.shift()));
    std::byte* const memory = slot.memory;
    const std::uint32_t from = slot.dirty_first;
    const std::uint32_t end = slot.dirty_end;
    std::memset(memory + from, 0, end - from);
    slot.dirty_first = 0;
    slot.dirty_end = 0;
  }
}

// REQUIRES: held, and nothing of it is live.
template <class Policies>
void PoolSpace<Policies>::LetGo(Iova first, std::uint64_t pages) {
  for (std::uint64_t i = pages; i-- > 0;) {
    table_.Become(*table_.SlotAt(first + (i << page_.shift())),
                  SlotState::kFree);
  }
}

template <class Policies>
Result<void> PoolSpace<Policies>::Finish(std::span<const Mapping> mappings,
                                         MapAttributes attributes) {
  Result<void> result;
  for (const Mapping& m : mappings) {
    if (!Owns(m)) continue;
    const Result<void> r = EndOne(m, attributes);
    if (!r.ok() && result.ok()) result = r;
  }
  return result;
}

template <class Policies>
Result<void> PoolSpace<Policies>::EndOne(const Mapping& mapping,
                                         MapAttributes attributes) {
  Slot& slot = *table_.SlotAt(mapping.iova);
  const Range body = BodyOf(slot, mapping.iova);
  const Iova first = body.RoundOutToPages(page_).first();
  const std::uint64_t pages = Pages(slot);
  const Direction direction = ShapeOf(slot).direction();
  std::uint64_t bytes = 0;
  Result<void> copied;
  if (DrainsFor(direction, attributes)) {
    copied = CopyOut(slot, body, body, &bytes);
  }
  core_.counters.CountUnmap(bytes);
  core_.GiveQuota();
  LetGo(first, pages);
  const Result<void> freed = iova_[KindOf(direction)].Free(first, pages);
  return freed.ok() ? copied : freed;
}

// --- Contents ---

template <class Policies>
template <class F>
Result<void> PoolSpace<Policies>::ForEachPiece(Range body, Range part,
                                               F&& f) const {
  for (Iova at = part.first();;) {
    const Iova page_last(at.value() | page_.mask());
    const Iova last = std::min(page_last, part.last());
    const Result<void> r =
        f(*table_.SlotAt(at), page_.Offset(at.value()), at - body.first(),
          static_cast<std::size_t>(last - at) + 1);
    if (!r.ok() || last == part.last()) return r;
    at = last + 1;
  }
}

template <class Policies>
Result<void> PoolSpace<Policies>::CopyIn(const Slot& first, Range body,
                                         Range part, std::uint64_t* bytes) {
  return ForEachPiece(
      body, part,
      [&](Slot& slot, std::uint64_t at, std::uint64_t offset, std::size_t n) {
        *bytes += n;
        return CopyFromMemory(core_.memory, BufferOf(first) + offset,
                              slot.memory + at, n);
      });
}

template <class Policies>
Result<void> PoolSpace<Policies>::CopyOut(const Slot& first, Range body,
                                          Range part, std::uint64_t* bytes) {
  return ForEachPiece(
      body, part,
      [&](Slot& slot, std::uint64_t at, std::uint64_t offset, std::size_t n) {
        *bytes += n;
        return CopyToMemory(core_.memory, BufferOf(first) + offset,
                            slot.memory + at, n);
      });
}

// The body, and zeros over what was copied to its pages before.
template <class Policies>
Result<void> PoolSpace<Policies>::Fill(const Slot& first, Range body,
                                       std::uint64_t* bytes) {
  const bool zero = ShapeOf(first).fill() == BounceFill::kZero;
  return ForEachPiece(body, body,
                      [&](Slot& slot, std::uint64_t at, std::uint64_t offset,
                          std::size_t n) -> Result<void> {
                        std::byte* const memory = slot.memory;
                        const auto begin = static_cast<std::uint32_t>(at);
                        const auto end = static_cast<std::uint32_t>(at + n);
                        const std::uint32_t old_first = slot.dirty_first;
                        const std::uint32_t old_end = slot.dirty_end;
                        if (old_first < begin) {
                          std::memset(memory + old_first, 0,
                                      std::min(begin, old_end) - old_first);
                        }
                        if (old_end > end) {
                          const std::uint32_t from = std::max(old_first, end);
                          std::memset(memory + from, 0, old_end - from);
                        }
                        slot.dirty_first = begin;
                        slot.dirty_end = end;
                        if (zero) {
                          std::memset(memory + begin, 0, n);
                          return Ok();
                        }
                        *bytes += n;
                        return CopyFromMemory(core_.memory,
                                              BufferOf(first) + offset,
                                              memory + begin, n);
                      });
}

template <class Policies>
Result<void> PoolSpace<Policies>::SyncForCpu(const Mapping& mapping,
                                             std::uint64_t offset,
                                             std::uint64_t size) {
  const Result<Slot*> pinned = checker_.Pin(mapping, offset, size);
  if (!pinned.ok()) return core_.RefuseStream(pinned.error());
  std::uint64_t bytes = 0;
  Result<void> result;
  if (DeviceWrites(mapping.direction)) {
    result = CopyOut(**pinned, BodyOf(**pinned, mapping.iova),
                     *Range::FromSize(mapping.iova + offset, size), &bytes);
  }
  core_.counters.Count([&](auto& line) { line.bytes_from_device.Add(bytes); });
  checker_.Unpin(**pinned);
  return result;
}

template <class Policies>
Result<void> PoolSpace<Policies>::SyncForDevice(const Mapping& mapping,
                                                std::uint64_t offset,
                                                std::uint64_t size) {
  const Result<Slot*> pinned = checker_.Pin(mapping, offset, size);
  if (!pinned.ok()) return core_.RefuseStream(pinned.error());
  std::uint64_t bytes = 0;
  Result<void> result;
  if (!ShapeOf(**pinned).overwritten()) {
    result = CopyIn(**pinned, BodyOf(**pinned, mapping.iova),
                    *Range::FromSize(mapping.iova + offset, size), &bytes);
  }
  core_.counters.Count([&](auto& line) { line.bytes_to_device.Add(bytes); });
  checker_.Unpin(**pinned);
  return result;
}

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_POOL_USE_H_
