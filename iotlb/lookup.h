// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_LOOKUP_H_
#define DMAMAP_IOTLB_LOOKUP_H_

// What reads an IOTLB. Included by iotlb/iotlb.h alone.

#include <cstddef>
#include <cstdint>
#include <span>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iotlb/iotlb.h"
#include "iotlb/mapping.h"
#include "iotlb/translate.h"

namespace dmamap::inline v0 {

template <class P>
Result<Translation> BasicIotlb<P>::Lookup(Iova at, Permission wanted) const {
  RecordCopy copy;
  const Record *record = nullptr;
  const internal::Verdict verdict =
      core_.FindByFront(at.value(), wanted, copy, record);
  if (verdict == internal::Verdict::kHit) [[likely]] {
    return copy.At(at.value());
  }
  return LookupFurther(at, wanted);
}

template <class P>
Result<PageTranslation> BasicIotlb<P>::LookupPage(Iova at,
                                                  Permission wanted) const {
  PageTranslation found;
  if (core_.FindMemory(at.value(), wanted, found) == Core::Brief::kMemory)
      [[likely]] {
    return found;
  }
  const Result<Translation> further = Lookup(at, wanted);
  if (!further.ok()) return further.error();
  return PageTranslationOf(*further);
}

// Out of line: the common lookup stays small, and its copy in registers.
template <class P>
Result<Translation> BasicIotlb<P>::LookupFurther(Iova at,
                                                 Permission wanted) const {
  RecordCopy copy;
  const Record *record = nullptr;
  const internal::Verdict verdict =
      core_.FindFurther(at.value(), wanted, copy, record);
  if (verdict == internal::Verdict::kHit) return copy.At(at.value());
  return Answer(verdict, wanted);
}

// What ends a lookup that found nothing.
template <class P>
Error BasicIotlb<P>::Answer(internal::Verdict verdict,
                            Permission wanted) const {
  if (!ready_) return Error::kShutDown;
  if (!IsValid(wanted)) return Error::kInvalidArgument;
  return verdict == internal::Verdict::kMiss ? Error::kNotMapped
                                             : Error::kPermission;
}

template <class P>
std::size_t BasicIotlb<P>::Translate(Range range, Permission wanted,
                                     std::span<Segment> out) const {
  std::size_t count = 0;
  if (out.empty()) return 0;
  (void)ForEachSegment(range, wanted, [&](const Segment &segment) {
    out[count++] = segment;
    return count < out.size();
  });
  return count;
}

template <class P>
template <class Emit>
Result<void> BasicIotlb<P>::ForEachSegment(Range range, Permission wanted,
                                           Emit &&emit) const {
  if (!ready_) return Error::kShutDown;
  if (!IsValid(wanted)) return Error::kInvalidArgument;
  SegmentSweep sweep(range, wanted, emit);
  Walk walk(core_.tree(), range.first().value(), range.last().value());
  bool more = true;
  walk.ForEach([&](const RecordCopy &copy) {
    more = sweep.Feed(copy.entry());
    return more;
  });
  if (more) sweep.Finish();
  return Ok();
}

template <class P>
template <class Visit>
inline void BasicIotlb<P>::ForEach(Range range, Visit &&visit) const {
  Walk walk(core_.tree(), range.first().value(), range.last().value());
  walk.ForEach([&](const RecordCopy &copy) {
    const IotlbEntry entry = copy.entry();
    visit(entry);
    return true;
  });
}

template <class P>
template <class Visit>
void BasicIotlb<P>::ForEachMappingOf(PhysRange memory, Visit &&visit) const
    requires(P::kReverse) {
  core_.ForEachMappingOf(memory.first().value(), memory.last().value(),
                         [&](const RecordCopy &copy) {
                           const IotlbEntry entry = copy.entry();
                           visit(entry);
                         });
}

template <class P>
Result<IotlbEntry> BasicIotlb<P>::Region(Iova at) const {
  if (!ready_) return Error::kShutDown;
  RecordCopy copy;
  Walk start(core_.tree(), at.value(), at.value());
  if (!start.Next(copy)) return Error::kNotMapped;
  IotlbEntry region = copy.entry();
  // Each turn makes the region longer.
  for (bool grown = true; grown && region.range.first() != Iova::Min();) {
    const std::uint64_t before = region.range.first().value() - 1;
    Walk walk(core_.tree(), before, before);
    grown = false;
    while (!grown && walk.Next(copy)) {
      grown = Continues(copy.entry(), region);
    }
    if (!grown) break;
    region.address = copy.entry().address;
    region.range = Range::FromFirstLast(Iova(copy.first), region.range.last())
                       .value_or(region.range);
  }
  for (bool grown = true; grown && region.range.last() != Iova::Max();) {
    const std::uint64_t behind = region.range.last().value() + 1;
    Walk walk(core_.tree(), behind, behind);
    grown = false;
    while (!grown && walk.Next(copy)) {
      grown = Continues(region, copy.entry());
    }
    if (!grown) break;
    region.range = Range::FromFirstLast(region.range.first(), Iova(copy.last))
                       .value_or(region.range);
  }
  return region;
}

template <class P>
MissReport BasicIotlb<P>::ReportMiss(Iova at, Permission wanted) {
  // An Add would never answer it.
  if (!IsValid(wanted)) return MissReport::kInvalid;
  const PendingMiss miss{Iova(kPage.RoundDown(at.value())), wanted};
  return misses_.Report(miss, [&] { return Lookup(at, wanted).ok(); });
}

template <class P>
IotlbStats BasicIotlb<P>::stats() const {
  Guard guard(core_.lock());
  IotlbStats stats = stats_;
  stats.readers = registry_.stats();
  stats.added = core_.added();
  stats.removed = core_.removed();
  stats.entries = core_.size();
  stats.height = core_.height();
  stats.front_tables = core_.front().tables();
  stats.memory_bytes = core_.memory_bytes() + registry_.memory_bytes() +
                       misses_.memory_bytes() + dirty_.memory_bytes();
  return stats;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_LOOKUP_H_
