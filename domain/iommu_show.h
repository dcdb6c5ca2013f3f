// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_IOMMU_SHOW_H_
#define DMAMAP_DOMAIN_IOMMU_SHOW_H_

// The first half of iommu_space.h: how a mapping is made, and how its bounce
// pages are filled and synced. Included by it alone.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "domain/iommu_space.h"

namespace dmamap::inline v0 {
namespace internal {

template <class Policies>
Result<Mapping> IommuSpace<Policies>::Map(PhysAddr buffer, std::uint64_t size,
                                          Direction direction,
                                          MapAttributes attributes) {
  const auto valid = ValidateMap(buffer, size, direction, attributes);
  if (!valid.ok()) return valid.error();
  const std::uint64_t head = page_.Offset(buffer.value());
  const SlotShape shape(head, FillFor(direction, attributes), direction,
                        Has(attributes, MapAttributes::kDeviceOverwritesAll));
  // A size this close to 2^64 has too many pages to be found.
  if (size > Iova::Max() - Iova(head)) return Error::kNoSpace;
  const std::uint64_t pages = page_.PagesFor(head + size);
  if (!core_.TakeQuota()) return Error::kLimit;
  const Result<Iova> first = iova_.Allocate(pages);
  if (!first.ok()) {
    core_.GiveQuota();
    return first.error();
  }
  const Result<Slot*> slot = table_.Ensure(*first);
  Result<void> shown = slot.ok() ? Ok() : Result<void>(slot.error());
  // Nobody else has the address, and who gave it up has freed the word.
  if (shown.ok() && !table_.Begin(**slot, size, buffer, shape)) {
    shown = Error::kBusy;
  }
  std::uint64_t bytes = 0;
  bool kept = false;
  const Range body = *Range::FromSize(*first + head, size);
  if (shown.ok()) {
    (*slot)->linked.store(0, std::memory_order_relaxed);  // before the word
    shown = Show(**slot, body, buffer, shape, &bytes, &kept);
  }
  if (!shown.ok()) {
    if (!kept) (void)iova_.Free(*first, pages).ok();
    core_.GiveQuota();
    return shown.error();
  }
  core_.counters.CountMap(direction, bytes);
  return Mapping{body.first(), size, direction,
                 table_.Become(**slot, SlotState::kLive)};
}

template <class Policies>
Result<void> IommuSpace<Policies>::Show(Slot& slot, Range body, PhysAddr buffer,
                                        SlotShape shape, std::uint64_t* bytes,
                                        bool* kept) {
  // The record before the phase (Domain::Shutdown has it the other way round).
  Core::Fence::Light();
  const IommuLayout layout = LayoutOf(body);
  std::size_t mapped = 0;
  Result<void> done = MakePages(slot, layout);
  if (done.ok()) done = FillPages(slot, body, buffer, shape, bytes);
  if (done.ok()) done = MapParts(slot, layout, body, buffer, shape, &mapped);
  // seq_cst: after the record, for a Shutdown that looks at it.
  if (done.ok() && !core_.IsOpen(std::memory_order_seq_cst)) {
    done = Error::kShutDown;
  }
  if (done.ok()) return done;
  const Result<void> gone = Undo(slot, layout, mapped);
  *kept = !gone.ok();
  return gone.ok() ? done : gone;
}

template <class Policies>
Result<void> IommuSpace<Policies>::MakePages(Slot& slot,
                                             const IommuLayout& layout) {
  slot.head = nullptr;
  slot.tail = nullptr;
  for (const IommuPart& part : layout.parts()) {
    if (!part.bounced) continue;
    const Result<std::byte*> made =
        core_.pages.Allocate(page_, part.pages.PagesTouchedMinusOne(page_) + 1);
    if (!made.ok()) return made.error();
    (part.at_tail ? slot.tail : slot.head) = *made;
  }
  return Ok();
}

template <class Policies>
void IommuSpace<Policies>::FreePages(Slot& slot) {
  std::byte* const head = slot.head;
  std::byte* const tail = slot.tail;
  if (head == nullptr && tail == nullptr) return;
  // relaxed: the caller has the word.
  const std::uint64_t size = slot.size.load(std::memory_order_relaxed);
  const std::uint64_t pages =
      cover_ == Cover::kAll ? page_.PagesFor(ShapeOf(slot).head() + size) : 1;
  if (head != nullptr) core_.pages.Free(head, page_, pages);
  if (tail != nullptr) core_.pages.Free(tail, page_, 1);
  slot.head = nullptr;
  slot.tail = nullptr;
}

template <class Policies>
Result<void> IommuSpace<Policies>::FillPages(Slot& slot, Range body,
                                             PhysAddr buffer, SlotShape shape,
                                             std::uint64_t* bytes) {
  if (shape.fill() == BounceFill::kZero) return Ok();  // they are
  return ForEachBounced(slot, body, body, buffer,
                        [&](std::byte* data, PhysAddr from, std::size_t n) {
                          *bytes += n;
                          return CopyFromMemory(core_.memory, from, data, n);
                        });
}

template <class Policies>
Result<void> IommuSpace<Policies>::MapParts(const Slot& slot,
                                            const IommuLayout& layout,
                                            Range body, PhysAddr buffer,
                                            SlotShape shape,
                                            std::size_t* mapped) {
  const Permission permission = PermissionFor(shape.direction());
  for (const IommuPart& part : layout.parts()) {
    // Of a part that is the buffer's own: its first page's start, which may lie
    // in front of the buffer.
    const PhysAddr memory = part.bounced
                                ? PhysAddrOf(MemoryOf(slot, part))
                                : buffer + (part.pages.first() - body.first());
    const auto r = core_.invalidation.Map(part.pages, memory, permission);
    if (!r.ok()) return r;
    ++*mapped;
  }
  // relaxed: this thread wrote it. Links are synced together.
  if (slot.linked.load(std::memory_order_relaxed) != 0) return Ok();
  return core_.invalidation.SyncMap(layout.pages());
}

template <class Policies>
Result<void> IommuSpace<Policies>::Undo(Slot& slot, const IommuLayout& layout,
                                        std::size_t mapped) {
  Result<void> gone;
  if (mapped != 0) {
    const Range made = *Range::FromFirstLast(
        layout.pages().first(), layout.parts()[mapped - 1].pages.last());
    gone = core_.invalidation.Unmap(made);
    if (gone.ok()) gone = core_.invalidation.Invalidate(made);
  }
  if (!gone.ok()) {
    core_.CountQuarantined();
    table_.Become(slot, SlotState::kQuarantined);
    return gone;
  }
  FreePages(slot);
  table_.Become(slot, SlotState::kFree);
  return Ok();
}

template <class Policies>
template <class F>
Result<void> IommuSpace<Policies>::ForEachBounced(const Slot& slot, Range body,
                                                  Range part, PhysAddr buffer,
                                                  F&& f) const {
  const IommuLayout layout = LayoutOf(body);
  for (const IommuPart& p : layout.parts()) {
    const Result<Range> piece = p.pages.Intersect(part);
    if (!p.bounced || !piece.ok()) continue;
    const Result<void> r =
        f(MemoryOf(slot, p) + (piece->first() - p.pages.first()),
          buffer + (piece->first() - body.first()),
          static_cast<std::size_t>(piece->size()));
    if (!r.ok()) return r;
  }
  return Ok();
}

template <class Policies>
Result<void> IommuSpace<Policies>::CopyOut(const Slot& slot, Range body,
                                           Range part, std::uint64_t* bytes) {
  return ForEachBounced(slot, body, part, BufferOf(slot),
                        [&](std::byte* data, PhysAddr to, std::size_t n) {
                          *bytes += n;
                          return CopyToMemory(core_.memory, to, data, n);
                        });
}

template <class Policies>
Result<void> IommuSpace<Policies>::CopyIn(const Slot& slot, Range body,
                                          Range part, std::uint64_t* bytes) {
  return ForEachBounced(slot, body, part, BufferOf(slot),
                        [&](std::byte* data, PhysAddr from, std::size_t n) {
                          *bytes += n;
                          return CopyFromMemory(core_.memory, from, data, n);
                        });
}

template <class Policies>
Result<void> IommuSpace<Policies>::SyncForCpu(const Mapping& mapping,
                                              std::uint64_t offset,
                                              std::uint64_t size) {
  const Result<Slot*> pinned = checker_.Pin(mapping, offset, size);
  if (!pinned.ok()) return Refuse(pinned.error());
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
Result<void> IommuSpace<Policies>::SyncForDevice(const Mapping& mapping,
                                                 std::uint64_t offset,
                                                 std::uint64_t size) {
  const Result<Slot*> pinned = checker_.Pin(mapping, offset, size);
  if (!pinned.ok()) return Refuse(pinned.error());
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

#endif  // DMAMAP_DOMAIN_IOMMU_SHOW_H_
