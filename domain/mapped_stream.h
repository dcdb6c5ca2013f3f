// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_MAPPED_STREAM_H_
#define DMAMAP_DOMAIN_MAPPED_STREAM_H_

// MappedStream: the stream space of a domain whose Invalidation is an IommuMap,
// with a StreamSpace's interface. An inner header.
//
//   0 | pool: PoolSpace | tables: IommuSpace | bounce_size
//
// kPooled has the pool alone, kAutomatic both, the other modes the tables
// alone. An address says which of the two its mapping is in, so that calls for
// a mapping go by it, and not by what the mode would choose now. Where one has
// no room or memory left, kAutomatic takes the other.

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/iommu_map.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "domain/claim.h"
#include "domain/core.h"
#include "domain/iommu_space.h"
#include "domain/map_cost.h"
#include "domain/mode.h"
#include "domain/options.h"
#include "domain/owner.h"
#include "domain/pool_space.h"
#include "domain/stream.h"
#include "iotlb/mapping.h"

namespace dmamap::inline v0 {
namespace internal {

// Tables that software looks up in (SoftwareIommu).
template <class B>
concept LooksUp = requires(const B& b, Iova at, Permission wanted) {
  { b.Lookup(at, wanted) } -> std::same_as<Result<Translation>>;
};

template <class Policies>
class MappedStream {
  using Core = DomainCore<Policies>;
  using Backend = typename Policies::Invalidation;
  using Cost = MapCost<Policies::template Atom>;

 public:
  explicit MappedStream(Core& core) : core_(core), pool_(core), tables_(core) {}

  // kInvalidArgument: DomainOptions says what must hold.
  Result<void> Init(const DomainOptions& o) {
    mode_ = o.mode;
    page_ = o.page;
    owners_ = o.owners;
    cost_.Init(o.automatic);
    const Iova first(page_.bytes());
    const Iova last(o.bounce_size - 1);
    if (page_.shift() < core_.invalidation.page().shift()) {
      return Error::kInvalidArgument;
    }
    if (mode_ != DomainMode::kPooled && mode_ != DomainMode::kAutomatic) {
      return InitTables(o, first, last, mode_);
    }
    split_ = last;
    if (mode_ == DomainMode::kAutomatic) {
      const std::uint64_t half = page_.RoundDown(o.bounce_size / 2);
      split_ = Iova((o.pool_size != 0 ? o.pool_size : half) - 1);
      if (split_ <= first || split_ >= last ||
          page_.Offset(split_.value()) != page_.mask()) {
        return Error::kInvalidArgument;
      }
      const auto r = InitTables(o, split_ + 1, last, o.automatic.map_with);
      if (!r.ok()) return r;
    }
    return pool_.Init(o, *Range::FromFirstLast(first, split_));
  }

  // An owner has nothing of his own here: no two buffers share a page.
  Result<Mapping> Map(PhysAddr buffer, std::uint64_t size, Direction direction,
                      MapAttributes attributes, BufferOwner owner) {
    if (static_cast<std::uint32_t>(owner) >= owners_) {
      return Error::kInvalidArgument;
    }
    if (mode_ == DomainMode::kAutomatic) {
      return MapEither(buffer, size, direction, attributes);
    }
    return mode_ == DomainMode::kPooled
               ? pool_.Map(buffer, size, direction, attributes)
               : tables_.Map(buffer, size, direction, attributes);
  }
  Result<void> Unmap(std::span<const Mapping> mappings,
                     MapAttributes attributes);
  Result<void> SyncForCpu(const Mapping& m, std::uint64_t offset,
                          std::uint64_t size) {
    return InPool(m) ? pool_.SyncForCpu(m, offset, size)
                     : tables_.SyncForCpu(m, offset, size);
  }
  Result<void> SyncForDevice(const Mapping& m, std::uint64_t offset,
                             std::uint64_t size) {
    return InPool(m) ? pool_.SyncForDevice(m, offset, size)
                     : tables_.SyncForDevice(m, offset, size);
  }

  // The two-step form: in the tables, if there are any.
  IommuSpace<Policies>& tables() { return tables_; }
  const IommuSpace<Policies>& tables() const { return tables_; }
  bool has_tables() const { return mode_ != DomainMode::kPooled; }
  const Cost& cost() const { return cost_; }

  // kUnsupported when only the device looks its tables up.
  Result<DeviceView> Translate(Iova at, std::uint64_t length,
                               Permission wanted) const;
  Result<FaultPage> Fault(Iova at) const;

  Result<std::uint64_t> Reclaim(Range) { return Error::kUnsupported; }
  // Its bounce pages are in the device's tables.
  Result<std::uint64_t> SwapPages(PageHome) { return Error::kUnsupported; }
  std::uint64_t ReclaimIdle() { return has_pool() ? pool_.ReclaimIdle() : 0; }
  Result<void> Flush() { return has_tables() ? tables_.Flush() : Ok(); }
  Result<void> Poll() { return has_tables() ? tables_.Poll() : Ok(); }
  SafetyTicket Ticket() { return tables_.Ticket(); }
  bool IsOver(SafetyTicket ticket) const { return tables_.IsOver(ticket); }
  std::uint64_t waiting() const { return tables_.waiting(); }
  void AddTo(RefusedCalls& calls) const {
    pool_.AddTo(calls);
    tables_.AddTo(calls);
  }

  template <class F>
  void ForEachMapping(F&& f) const {
    pool_.ForEachMapping(f);
    tables_.ForEachMapping(f);
  }
  template <class F>
  void ForEachReservation(F&& f) const {
    tables_.ForEachReservation(f);
  }
  bool IsInUse() const { return pool_.IsInUse() || tables_.IsInUse(); }
  void Abandon() {
    pool_.Abandon();
    tables_.Abandon();
  }
  bool CheckInvariants() const;

 private:
  bool has_pool() const {
    return mode_ == DomainMode::kPooled || mode_ == DomainMode::kAutomatic;
  }
  bool InPool(const Mapping& m) const { return has_pool() && m.iova <= split_; }
  Result<void> InitTables(const DomainOptions& o, Iova first, Iova last,
                          DomainMode mode) {
    const Cover cover = mode == DomainMode::kDirect          ? Cover::kNothing
                        : mode == DomainMode::kUnalignedEnds ? Cover::kEnds
                                                             : Cover::kAll;
    return tables_.Init(o, *Range::FromFirstLast(first, last), cover);
  }
  // How many mappings the caller's thread, or CPU, has made.
  std::uint64_t Turn() {
    std::uint64_t turn = 0;
    core_.counters.Count([&](auto& line) { turn = line.made(); });
    return turn;
  }
  // Of a call for which the other way is open.
  static bool HasNoRoom(Error error) {
    return error == Error::kNoSpace || error == Error::kNoMemory ||
           error == Error::kBudget || error == Error::kPoolEmpty ||
           error == Error::kLimit;
  }
  Result<Mapping> MapEither(PhysAddr buffer, std::uint64_t size,
                            Direction direction, MapAttributes attributes);
  Result<void> UnmapOne(const Mapping& mapping, MapAttributes attributes);

  Core& core_;
  DomainMode mode_ = DomainMode::kBounce;
  PageSize page_;
  std::uint32_t owners_ = 1;
  Iova split_;  // the pool's last byte
  Cost cost_;
  PoolSpace<Policies> pool_;
  IommuSpace<Policies> tables_;
};

template <class Policies>
Result<Mapping> MappedStream<Policies>::MapEither(PhysAddr buffer,
                                                  std::uint64_t size,
                                                  Direction direction,
                                                  MapAttributes attributes) {
  const std::uint64_t turn = Turn();
  const bool samples = cost_.Samples(turn);
  bool copies = cost_.Copies(size, turn);
  const auto map = [&] {
    return copies ? pool_.Map(buffer, size, direction, attributes)
                  : tables_.Map(buffer, size, direction, attributes);
  };
  const std::uint64_t begin = samples ? cost_.Now() : 0;
  Result<Mapping> made = map();
  if (samples && made.ok()) {
    const std::uint64_t ns = cost_.Now() - begin;
    if (copies) {
      cost_.AddCopied(Cost::kCopyAtMap, size, ns);
    } else {
      cost_.AddMapped(Cost::kMap, ns);
    }
  }
  if (made.ok() || !HasNoRoom(made.error())) return made;
  copies = !copies;
  const Result<Mapping> other = map();
  return other.ok() ? other : made;
}

template <class Policies>
Result<void> MappedStream<Policies>::UnmapOne(const Mapping& mapping,
                                              MapAttributes attributes) {
  const bool copied = InPool(mapping);
  const std::span<const Mapping> one(&mapping, 1);
  const bool samples = mode_ == DomainMode::kAutomatic && cost_.Samples(Turn());
  const std::uint64_t begin = samples ? cost_.Now() : 0;
  const Result<void> gone =
      copied ? pool_.Unmap(one, attributes) : tables_.Unmap(one, attributes);
  if (samples && gone.ok()) {
    const std::uint64_t ns = cost_.Now() - begin;
    if (copied) {
      cost_.AddCopied(Cost::kCopyAtUnmap, mapping.size, ns);
    } else {
      cost_.AddMapped(Cost::kUnmap, ns);
    }
  }
  return gone;
}

template <class Policies>
Result<void> MappedStream<Policies>::Unmap(std::span<const Mapping> mappings,
                                           MapAttributes attributes) {
  if (mappings.size() == 1) return UnmapOne(mappings[0], attributes);
  if (!AreKnown(attributes)) return Error::kInvalidArgument;
  const auto claimed = ClaimAll(
      mappings,
      [&](const Mapping& m, SlotState to) {
        return InPool(m) ? pool_.Take(m, to) : tables_.Take(m, to);
      },
      [&](const Mapping& m, SlotState to) {
        InPool(m) ? pool_.Become(m, to) : tables_.Become(m, to);
      });
  if (!claimed.ok()) return core_.RefuseStream(claimed.error());
  Result<void> ended;
  if (has_pool()) ended = pool_.Finish(mappings, attributes);
  if (!has_tables()) return ended;
  const Result<void> unmapped = tables_.Finish(mappings, attributes);
  return ended.ok() ? unmapped : ended;
}

template <class Policies>
Result<DeviceView> MappedStream<Policies>::Translate(Iova at,
                                                     std::uint64_t length,
                                                     Permission wanted) const {
  if constexpr (LooksUp<Backend>) {
    const Result<Translation> t = core_.invalidation.Lookup(at, wanted);
    if (!t.ok()) return t.error();
    return DeviceView{PointerTo(t->address),
                      std::min(length - 1, t->bytes_minus_one) + 1};
  }
  return Error::kUnsupported;
}

template <class Policies>
Result<FaultPage> MappedStream<Policies>::Fault(Iova at) const {
  if constexpr (LooksUp<Backend>) {
    const Range page = Range::Byte(at).RoundOutToPages(page_);
    const Result<Translation> t =
        core_.invalidation.Lookup(page.first(), Permission::kNone);
    if (!t.ok()) return t.error();
    return FaultPage{PointerTo(t->address), page, t->permission};
  }
  return Error::kUnsupported;
}

template <class Policies>
bool MappedStream<Policies>::CheckInvariants() const {
  std::uint64_t live = 0;
  std::uint64_t quarantined = 0;
  ForEachMapping([&](const auto& m) {
    live += m.word.state() == SlotState::kLive ? 1 : 0;
    quarantined += m.word.state() == SlotState::kQuarantined ? 1 : 0;
  });
  DomainStats stats;
  core_.counters.AddTo(stats);
  // relaxed: no call is under way.
  return pool_.CheckInvariants() && tables_.CheckInvariants() &&
         live == stats.live &&
         quarantined <= core_.quarantined.load(std::memory_order_relaxed);
}

// The stream space of a domain.
template <class Policies, bool kHasTables>
struct StreamFor {
  using Type = StreamSpace<Policies>;
};
template <class Policies>
struct StreamFor<Policies, true> {
  using Type = MappedStream<Policies>;
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_MAPPED_STREAM_H_
