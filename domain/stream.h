// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_STREAM_H_
#define DMAMAP_DOMAIN_STREAM_H_

// The stream space of a domain: buffers seen through bounce pages. An inner
// header; domain.h says what each call promises.
//
// Who owns the slots of a mapping
//   Map      from the allocator's answer until the IOTLB entry: this thread
//            alone, so it copies without the lock.
//   live     the device; a sync pins the record and copies without the lock.
//   Unmap    from kEnding until the address is freed: this thread alone.
// A page that several mappings share appears under the lock, filled from every
// entry that the IOTLB has. A mapping that is being made or ended is not in the
// IOTLB; it looks, under the lock, at which of its two outer pages were there
// (only those can be shared), and treats them accordingly:
//   Map      fills, under the lock, an outer page that came after its own copy.
//   Unmap    copies nothing back from an outer page that comes later: it was
//            never filled from this mapping, and no device wrote to it.
//
// Order of Unmap: record kEnding and IOTLB entry gone, so that no new access
// begins; Invalidate, so that none goes on; only then copy back, from memory
// that nobody changes; then the claims on the pages, then the address. If the
// invalidation fails, address and pages stay taken for ever.

#include <cstddef>
#include <cstdint>
#include <span>

#include "bounce/bounce.h"
#include "dma/address.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "domain/checker.h"
#include "domain/core.h"
#include "domain/options.h"

namespace dmamap::inline v0 {
namespace internal {

template <class Policies>
class StreamSpace {
  using Core = DomainCore<Policies>;
  using LockType = typename Policies::LockType;

 public:
  explicit StreamSpace(Core& core)
      : core_(core), bounce_(core.pages, core.memory) {}

  // REQUIRES: Domain::Init checked the options.
  Result<void> Init(const DomainOptions& o) {
    page_ = o.page;
    min_align_mask_ = o.min_align_mask;
    const auto bounce = bounce_.Init({o.bounce_size, o.bounce_page, o.page});
    if (!bounce.ok()) return bounce;
    const auto records = records_.Init(o.page, o.bounce_size >> o.page.shift());
    if (!records.ok()) return records;
    const auto window =
        Range::FromFirstLast(Iova(o.page.bytes()), Iova(o.bounce_size - 1));
    if (!window.ok()) return window.error();
    return iova_.Init({.window = *window, .page = o.page});
  }

  Result<Mapping> Map(PhysAddr buffer, std::uint64_t size, Direction direction,
                      MapAttributes attributes) {
    const Result<void> valid = Validate(buffer, size, direction, attributes);
    if (!valid.ok()) return valid.error();
    const std::uint64_t head = buffer.value() & min_align_mask_;
    // Cannot wrap: a size this close to 2^64 has too many pages to be found.
    if (size > Iova::Max() - Iova(head)) return Error::kNoSpace;
    const std::uint64_t pages = page_.PagesFor(head + size);
    const Result<Iova> first = iova_.Allocate(pages);
    if (!first.ok()) return first.error();

    BounceBuffer b;
    b.slots = *Range::FromSize(*first, pages << page_.shift());
    b.body = *Range::FromSize(*first + head, size);
    b.buffer = buffer;
    b.fill = FillFor(direction, attributes);
    const Result<Mapping> mapping = MapAt(b, direction, attributes);
    if (!mapping.ok()) (void)iova_.Free(*first, pages).ok();
    return mapping;
  }

  // All or nothing. REQUIRES: `mappings` is not empty.
  Result<void> Unmap(std::span<const Mapping> mappings,
                     MapAttributes attributes) {
    if (const auto r = BeginUnmap(mappings, attributes); !r.ok()) return r;
    Result<void> result;
    for (const Mapping& mapping : mappings) {
      StreamRecord& record = *records_.Of(mapping.iova);
      if (const auto r = FinishUnmap(record); !r.ok() && result.ok()) {
        result = r;
      }
    }
    core_.DoneEnding(mappings.size());
    return result;
  }

  Result<void> SyncForCpu(const Mapping& mapping, std::uint64_t offset,
                          std::uint64_t size) {
    const Result<StreamRecord*> pinned = Pin(mapping, offset, size);
    if (!pinned.ok()) return pinned.error();
    const StreamRecord& record = **pinned;
    std::uint64_t bytes = 0;
    Result<void> result;
    if (DeviceWrites(record.mapping.direction)) {
      result = bounce_.CopyOut(Part(record, offset, size),
                               record.buffer + offset, &bytes);
    }
    Guard guard(core_.lock);
    --(*pinned)->pins;
    core_.stats.bytes_from_device += bytes;
    return result;
  }

  Result<void> SyncForDevice(const Mapping& mapping, std::uint64_t offset,
                             std::uint64_t size) {
    const Result<StreamRecord*> pinned = Pin(mapping, offset, size);
    if (!pinned.ok()) return pinned.error();
    const StreamRecord& record = **pinned;
    std::uint64_t bytes = 0;
    Result<void> result;
    if (!record.overwritten) {
      const Range part = Part(record, offset, size);
      // A page that comes later is filled from the buffer, unless this mapping
      // is never filled but by hand: then this is the time to have the page.
      if (record.fill == BounceFill::kZero) result = MakePages(part);
      if (result.ok()) {
        result = bounce_.CopyIn(part, record.buffer + offset, &bytes);
      }
    }
    Guard guard(core_.lock);
    --(*pinned)->pins;
    core_.stats.bytes_to_device += bytes;
    return result;
  }

  // The page of `at`, made if need be. `allowed()` -> Result<void> is asked
  // under the lock, at the moment of the answer.
  template <class Allowed>
  Result<std::byte*> Touch(Iova at, Allowed&& allowed) {
    {
      Guard guard(core_.lock);
      if (const Result<void> r = allowed(); !r.ok()) return r.error();
      if (std::byte* page = bounce_.PageAt(at)) return page;
    }
    // Memory is taken without the lock, so the question is asked again.
    const Result<std::byte*> fresh = NewPage();
    if (!fresh.ok()) return fresh.error();
    const Result<std::byte*> page = PublishFilled(at, *fresh, allowed);
    if (!page.ok() || *page != *fresh) bounce_.Discard(*fresh);
    return page;
  }

  // What the mappings on the page of `at` allow, together; kNotMapped if there
  // is none. REQUIRES: the lock.
  Result<Permission> PagePermission(Iova at) const {
    const Range range = bounce_.PageRange(at);
    Permission all = Permission::kNone;
    auto e = core_.iotlb.First(range);
    if (e == nullptr) return Error::kNotMapped;
    for (; e != nullptr; e = core_.iotlb.Next(e, range)) {
      all = all | e->permission;
    }
    return all;
  }

  Range PageRange(Iova at) const { return bounce_.PageRange(at); }
  Result<std::uint64_t> Reclaim(Range pages) { return bounce_.Reclaim(pages); }
  std::uint64_t ReclaimIdle() { return bounce_.ReclaimIdle(); }

  // Gives up every live mapping: pages and address stay taken. REQUIRES: the
  // lock; the IOTLB was cleared.
  void Abandon() {
    records_.ForEach([this](StreamRecord& record) {
      if (record.state != RecordState::kLive) return;
      record.state = RecordState::kQuarantined;
      --core_.stats.live;
      ++core_.stats.quarantined;
    });
  }

  // REQUIRES: the lock, and no call is under way.
  bool CheckInvariants() const;

 private:
  static constexpr std::uint32_t kKnownAttributes = static_cast<std::uint32_t>(
      MapAttributes::kSkipSync | MapAttributes::kDeviceOverwritesAll);

  // Which outer pages of a mapping were there at some moment.
  struct Edges {
    bool first = false;
    bool last = false;
  };

  static Result<void> Validate(PhysAddr buffer, std::uint64_t size,
                               Direction direction, MapAttributes attributes) {
    if (!IsValid(direction) ||
        (static_cast<std::uint32_t>(attributes) & ~kKnownAttributes) != 0) {
      return Error::kInvalidArgument;
    }
    if (Has(attributes, MapAttributes::kDeviceOverwritesAll) &&
        direction != Direction::kFromDevice) {
      return Error::kInvalidArgument;
    }
    const Result<PhysRange> range = PhysRange::FromSize(buffer, size);
    if (!range.ok()) return range.error();
    return Ok();
  }

  Range SlotsOf(const StreamRecord& record) const {
    return record.body().RoundOutToPages(page_);
  }
  BounceBuffer BufferOf(const StreamRecord& record) const {
    return {SlotsOf(record), record.body(), record.buffer, record.fill};
  }
  static Range Part(const StreamRecord& record, std::uint64_t offset,
                    std::uint64_t size) {
    return *Range::FromSize(record.mapping.iova + offset, size);
  }
  Edges EdgesOf(Range slots) const {
    return {bounce_.PageAt(slots.first()) != nullptr,
            bounce_.PageAt(slots.last()) != nullptr};
  }

  // Everything behind the address: claims, contents, IOTLB entry, record.
  Result<Mapping> MapAt(const BounceBuffer& b, Direction direction,
                        MapAttributes attributes) {
    const Result<StreamRecord*> record = records_.Prepare(b.body.first());
    if (!record.ok()) return record.error();
    if (const auto r = bounce_.Claim(b.slots); !r.ok()) return r.error();
    std::uint64_t bytes = 0;
    const Edges there = EdgesOf(b.slots);
    Result<void> result = bounce_.Fill(b, &bytes);
    if (result.ok()) {
      Guard guard(core_.lock);
      result = Publish(b, there, direction, attributes, **record, &bytes);
      if (result.ok()) return (*record)->mapping;
    }
    bounce_.Scrub(b.slots);  // what was copied is nobody's now
    bounce_.Release(b.slots);
    return result.error();
  }

  // REQUIRES: the lock.
  Result<void> Publish(const BounceBuffer& b, Edges there, Direction direction,
                       MapAttributes attributes, StreamRecord& record,
                       std::uint64_t* bytes) {
    if (core_.closed) return Error::kShutDown;
    if (bounce_.shares_pages()) {
      if (const auto r = FillLateEdges(b, there, bytes); !r.ok()) return r;
    }
    const std::uint32_t tag = records_.NextTag();
    const auto added =
        core_.iotlb.Add({b.body, b.buffer, PermissionFor(direction), tag});
    if (!added.ok()) return added;
    record.mapping = {b.body.first(), b.body.size(), direction, tag};
    record.buffer = b.buffer;
    record.fill = b.fill;
    record.overwritten = Has(attributes, MapAttributes::kDeviceOverwritesAll);
    record.state = RecordState::kLive;
    DomainStats& stats = core_.stats;
    ++stats.maps;
    if (++stats.live > stats.high_water) stats.high_water = stats.live;
    stats.bytes_to_device += *bytes;
    return Ok();
  }

  // Fills the outer pages that were not there when Map looked.
  Result<void> FillLateEdges(const BounceBuffer& b, Edges there,
                             std::uint64_t* bytes) {
    const Iova edge[] = {b.slots.first(), b.slots.last()};
    // Where both are one page, it is done once.
    const bool known[] = {
        there.first,
        there.last || bounce_.PageRange(edge[0]).Contains(edge[1])};
    for (std::size_t i = 0; i < 2; ++i) {
      std::byte* const data = bounce_.PageAt(edge[i]);
      if (known[i] || data == nullptr) continue;
      const auto r =
          bounce_.FillPage(data, bounce_.PageRange(edge[i]), b, bytes);
      if (!r.ok()) return r;
    }
    return Ok();
  }

  // The parts of Unmap: stream_unmap.h.
  enum class Side { kBefore, kBehind };
  Result<void> BeginUnmap(std::span<const Mapping> mappings,
                          MapAttributes attributes);
  void PlanDrain(StreamRecord& record, MapAttributes attributes);
  void TrimTo(StreamRecord& record, Iova at, Side keep);
  Result<void> FinishUnmap(StreamRecord& record);

  Result<StreamRecord*> Pin(const Mapping& mapping, std::uint64_t offset,
                            std::uint64_t size) {
    Guard guard(core_.lock);
    if (core_.closed) return Error::kShutDown;
    const Result<StreamRecord*> record = records_.Check(mapping);
    if (!record.ok()) return core_.Refuse(record.error());
    if (size == 0) return Error::kInvalidArgument;
    const std::uint64_t recorded = (*record)->mapping.size;
    if (offset >= recorded || size > recorded - offset) {
      return core_.Refuse(Error::kOutOfRange);
    }
    ++(*record)->pins;
    return record;
  }

  // A zeroed page; idle ones are given back first if there is no other way.
  Result<std::byte*> NewPage() {
    const Result<std::byte*> fresh = bounce_.NewPage();
    if (fresh.ok() || bounce_.ReclaimIdle() == 0) return fresh;
    return bounce_.NewPage();
  }

  // Fills `fresh` from every mapping on the page of `at` and publishes it,
  // unless a page has appeared there; returns the page that is there now.
  template <class Allowed>
  Result<std::byte*> PublishFilled(Iova at, std::byte* fresh,
                                   Allowed&& allowed) {
    Guard guard(core_.lock);
    if (const Result<void> r = allowed(); !r.ok()) return r.error();
    if (std::byte* page = bounce_.PageAt(at)) return page;
    const Range range = bounce_.PageRange(at);
    std::uint64_t bytes = 0;
    for (auto e = core_.iotlb.First(range); e != nullptr;
         e = core_.iotlb.Next(e, range)) {
      const StreamRecord& record = *records_.Of(e->range.first());
      const auto r = bounce_.FillPage(fresh, range, BufferOf(record), &bytes);
      if (!r.ok()) return r.error();
    }
    ++core_.stats.faults;
    core_.stats.bytes_to_device += bytes;
    return bounce_.Publish(at, fresh);
  }

  // Has every page of `part` made. REQUIRES: its mapping is live and pinned.
  Result<void> MakePages(Range part) {
    const std::uint64_t step = bounce_.page().bytes();
    const std::uint64_t last = part.last().value();
    for (Iova at = bounce_.PageRange(part.first()).first(); at.value() <= last;
         at = at + step) {
      const auto r = Touch(at, [] { return Ok(); });
      if (!r.ok()) return r.error();
    }
    return Ok();
  }

  Core& core_;
  Bounce<typename Policies::Pages, typename Policies::Memory,
         Policies::template Atom>
      bounce_;
  StreamRecords<Policies::template Atom> records_;
  typename Policies::Allocator iova_;
  PageSize page_;
  std::uint64_t min_align_mask_ = 0;
};

}  // namespace internal
}  // namespace dmamap::inline v0

#include "domain/stream_unmap.h"  // IWYU pragma: export

#endif  // DMAMAP_DOMAIN_STREAM_H_
