// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Driver, domain, page tables and a hostile device, in every mode, strict and
// deferred, against an oracle that knows whose each byte is.
//
// What is nobody's to see has one value, kSecret: all of the driver's memory
// but the bodies of its mappings, and these too once their Unmap is safe. The
// device never writes it. The device uses every translation that it ever had
// and was not made to forget. After each step:
//   - every byte in its reach is on a page that is still taken, and, unless the
//     mode is kDirect, is not secret;
//   - the driver's memory is as the oracle has it, so that nothing but the
//     bodies of mappings was ever written back;
//   - no page is in the tables that the device remembers from before.

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <ostream>
#include <vector>

#include "domain/domain.h"
#include "domain/modes_for_test.h"

namespace dmamap {
namespace {

using testing_parts::Arena;
using testing_parts::Bytes;
using testing_parts::TableDomain;
using testing_parts::TableIommu;

constexpr std::uint64_t kPage = 256;
constexpr PageSize kPages = *PageSize::FromShift(8);
constexpr std::uint64_t kBounceSize = 160 * kPage;
constexpr std::size_t kBuffers = 10;
constexpr std::size_t kStride = 2048;
constexpr std::byte kSecret{0xEE};
constexpr std::byte kRefused{0xDD};
constexpr auto kNone = MapAttributes::kNone;
constexpr auto kSkip = MapAttributes::kSkipSync;
constexpr auto kOverwrites = MapAttributes::kDeviceOverwritesAll;

enum class Kind : int {
  kMap,
  kMapScatter,
  kUnmap,
  kUnmapAll,
  kHostileWrite,
  kHostileFlood,
  kSyncForCpu,
  kSyncForDevice,
  kCpuWrite,
  kBadUnmap,
  kBadSync,
  kReserve,
  kLink,
  kSyncLinks,
  kUnlink,
  kRelease,
  kFlush,
  kFailingUnmap,
  kFailingMap,
  kReclaim,
  kCoherent,
  kMapWithHole,
  kCount,
};

struct Op {
  Kind kind = Kind::kMap;
  std::uint32_t which = 0;
  std::uint32_t a = 0;
  std::uint32_t b = 0;
  std::uint32_t c = 0;
};
std::ostream& operator<<(std::ostream& os, const Op& op) {
  return os << "{" << static_cast<int>(op.kind) << " " << op.which << " "
            << op.a << " " << op.b << " " << op.c << "}";
}

struct Live {
  Mapping mapping;
  std::size_t offset = 0;  // of the buffer in the arena
  bool overwritten = false;
  std::optional<std::size_t> reservation;  // of a link
  Range body() const { return *Range::FromSize(mapping.iova, mapping.size); }
};
// Unmapped; the device may remember it.
struct Waiting {
  Live was;
  SafetyTicket ticket = {};
  bool for_ever = false;
};

std::byte Value(std::uint64_t n) {
  // Neither 0 nor kSecret nor kRefused.
  return static_cast<std::byte>(1 + n % 200);
}

template <class DomainType>
class World {
 public:
  World(DomainMode mode, FlushMode flush) : mode_(mode), flush_(flush) {
    DomainOptions o;
    o.limit = Iova(2 * kBounceSize - 1);
    o.bounce_size = kBounceSize;
    o.page = *PageSize::FromBytes(kPage);
    o.bounce_page = o.page;
    o.mode = mode;
    o.max_mappings = 60;
    o.automatic.map_ns = 40;  // about 400 bytes are copied
    // What waits is invalidated by its number, and now and then by its age: of
    // a clock of the test's own.
    o.flush = {.mode = flush, .entries = 4, .max_age = 100};
    o.on_safe = [](void* me, PhysRange memory) {
      static_cast<World*>(me)->Safe(memory);
    };
    o.safe_context = this;
    RC_ASSERT(domain_.Init(o).ok());
    std::memset(arena_.data(), static_cast<int>(kSecret), arena_.size());
    Remember();
  }

  void Run(const Op& op) {
    switch (op.kind) {
      case Kind::kMap:
        return Map(op, 1);
      case Kind::kMapScatter:
        return Map(op, 2 + op.which % 4);
      case Kind::kUnmapAll:
        return UnmapAll(op);
      case Kind::kHostileWrite:
        return HostileWrite(op, 1 + op.b % 300);
      case Kind::kHostileFlood:
        return HostileFlood(op);
      case Kind::kReserve:
        return Reserve(op);
      case Kind::kLink:
        return Link(op);
      case Kind::kSyncLinks:
        if (held_.empty()) return;
        RC_ASSERT(domain_.SyncLinks(At(held_, op.which).value).ok());
        return;
      case Kind::kRelease:
        return Release(op);
      case Kind::kFlush:
        RC_ASSERT(domain_.Flush().ok());
        RC_ASSERT(domain_.stats().waiting == 0);
        return;
      case Kind::kReclaim:
        domain_.ReclaimIdle();
        return;
      case Kind::kCoherent:
        return Coherent(op);
      case Kind::kMapWithHole:
        return MapWithHole(op);
      case Kind::kFailingMap:
        domain_.invalidation().map_fails_in = op.a % 3;
        Map(op, 1 + op.which % 3);
        domain_.invalidation().map_fails_in = testing_parts::kNever;
        return;
      default:
        if (!live_.empty()) OnMapping(op, op.which % live_.size());
    }
  }

  void Check() {
    Settle();
    RC_ASSERT(domain_.CheckInvariants());
    RC_ASSERT(safe_is_safe_);
    RC_ASSERT(domain_.stats().live == live_.size());
    RC_ASSERT(domain_.invalidation().reused == 0u);
    RC_ASSERT(domain_.memory().open_windows() == 0);
    RC_ASSERT(std::memcmp(arena_.data(), expected_.data(), arena_.size()) == 0);
    for (const auto& [number, entry] : domain_.invalidation().remembered()) {
      const bool own = arena_.range().Contains(entry.memory);
      RC_ASSERT(own || domain_.pages().IsOut(entry.memory));
      if (mode_ == DomainMode::kDirect) continue;
      const bool seen =
          std::memchr(PointerTo(entry.memory), static_cast<int>(kSecret),
                      kPage) != nullptr;
      RC_ASSERT(!seen);
    }
  }

  void End() {
    std::vector<Mapping> plain;
    std::vector<Mapping> links;
    for (const Live& l : live_) {
      (l.reservation ? links : plain).push_back(l.mapping);
    }
    std::uint64_t leaks = 0;
    domain_.ReportLeaks([&](const Leak&) { ++leaks; });
    RC_ASSERT(leaks == live_.size() + held_.size());
    if (!plain.empty()) RC_ASSERT(domain_.UnmapScatter(plain, kSkip).ok());
    if (!links.empty()) RC_ASSERT(domain_.Unlink(links, kSkip).ok());
    live_.clear();
    bool kept = false;  // a link in quarantine keeps its reservation
    for (const Held& held : held_) {
      const auto r = domain_.Release(held.value);
      RC_ASSERT(r.ok() || held.stuck);
      kept = kept || held.stuck;
    }
    RC_ASSERT(std::memcmp(arena_.data(), expected_.data(), arena_.size()) == 0);
    if (kept) return;
    RC_ASSERT(domain_.Shutdown([](const Leak&) {}).ok());
    RC_ASSERT(domain_.stats().waiting == 0u);
    bool for_ever = false;
    for (const Waiting& w : waiting_) for_ever = for_ever || w.for_ever;
    if (!for_ever) RC_ASSERT(domain_.pages().inner.in_use() == 0u);
  }

 private:
  struct Held {
    Reservation value;
    bool stuck = false;
  };

  template <class T>
  static T& At(std::vector<T>& v, std::uint32_t n) {
    return v[n % v.size()];
  }
  void Remember() {
    expected_.assign(arena_.data(), arena_.data() + arena_.size());
  }
  void Put(std::size_t at, std::byte value) {
    arena_[at] = expected_[at] = value;
  }

  // --- What the device sees ---

  // By the tables.
  std::byte Seen(Iova at) {
    const auto t = domain_.invalidation().Lookup(at, Permission::kNone);
    RC_ASSERT(t.ok());
    return *PointerTo(t->address);
  }
  bool IsOwn(Iova at) {
    const auto t = domain_.invalidation().Lookup(at, Permission::kNone);
    return t.ok() && arena_.range().Contains(t->address);
  }
  // After a drain of [offset, offset+n).
  void TakeSeen(const Live& l, std::uint64_t offset, std::uint64_t n) {
    if (!DeviceWrites(l.mapping.direction)) return;
    for (std::uint64_t i = offset; i < offset + n; ++i) {
      expected_[l.offset + i] = Seen(l.mapping.iova + i);
    }
  }

  // --- Buffers ---

  bool IsExposed(std::size_t buffer) const {
    const auto on = [&](std::size_t offset) {
      return offset / kStride == buffer;
    };
    return std::any_of(live_.begin(), live_.end(),
                       [&](const Live& l) { return on(l.offset); }) ||
           std::any_of(waiting_.begin(), waiting_.end(),
                       [&](const Waiting& w) { return on(w.was.offset); });
  }
  // One that the device can reach nothing of; kBuffers: none.
  std::size_t FreeBuffer(std::size_t from,
                         const std::vector<std::size_t>& taken) const {
    for (std::size_t i = 0; i < kBuffers; ++i) {
      const std::size_t n = (from + i) % kBuffers;
      const bool used =
          std::any_of(taken.begin(), taken.end(),
                      [&](std::size_t o) { return o / kStride == n; });
      if (!used && !IsExposed(n)) return n;
    }
    return kBuffers;
  }
  void Hide(const Live& l) {
    for (std::uint64_t i = 0; i < l.mapping.size; ++i) {
      Put(l.offset + i, kSecret);
    }
  }
  bool IsWaitingTwice(const Waiting& one) const {
    return std::any_of(waiting_.begin(), waiting_.end(), [&](const auto& w) {
      return &w != &one && w.was.body().RoundOutToPages(kPages).Overlaps(
                               one.was.body().RoundOutToPages(kPages));
    });
  }
  // What is safe by now is secret again.
  void Settle() {
    for (auto it = waiting_.begin(); it != waiting_.end();) {
      if (it->for_ever || !domain_.IsSafe(it->ticket)) {
        ++it;
        continue;
      }
      const bool tables =
          mode_ != DomainMode::kPooled && mode_ != DomainMode::kAutomatic;
      // Somebody else may have the address already; then he is in the tables,
      // or waits himself.
      if (tables && it->was.mapping.iova != Iova(0) && !IsWaitingTwice(*it)) {
        const Range pages = it->was.body().RoundOutToPages(kPages);
        for (Iova at = pages.first(); at <= pages.last(); at = at + kPage) {
          const auto number = at.value() / kPage;
          RC_ASSERT(domain_.invalidation().remembered().count(number) ==
                    domain_.invalidation().tables().count(number));
        }
      }
      Hide(it->was);
      it = waiting_.erase(it);
    }
  }
  void Safe(PhysRange memory) {
    for (const auto& [number, entry] : domain_.invalidation().remembered()) {
      (void)number;
      // Under a lock of the domain: Check says it.
      safe_is_safe_ =
          safe_is_safe_ &&
          (!PhysRange::FromSize(entry.memory, kPage)->Overlaps(memory) ||
           mode_ == DomainMode::kDirect);  // a neighbour on its page
    }
  }

  // --- Driver ---

  static Direction DirectionOf(std::uint32_t c) {
    return static_cast<Direction>(c % 3);
  }
  static MapAttributes AttributesOf(std::uint32_t c, Direction d) {
    const std::uint32_t kind = (c / 3) % 6;
    if (kind == 0) return kSkip;
    if (kind == 1 && d == Direction::kFromDevice) return kOverwrites;
    return kNone;
  }
  void Added(const Live& l, MapAttributes attributes) {
    for (std::uint64_t i = 0; i < l.mapping.size; ++i) {
      const Iova at = l.mapping.iova + i;
      const bool zero = attributes != kNone && !IsOwn(at);
      RC_ASSERT(Seen(at) == (zero ? std::byte{0} : expected_[l.offset + i]));
    }
    live_.push_back(l);
  }

  void Map(const Op& op, std::size_t count) {
    const Direction direction = DirectionOf(op.c);
    const MapAttributes attributes = AttributesOf(op.c, direction);
    std::vector<ScatterEntry> list;
    std::vector<std::size_t> offsets;
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t buffer = FreeBuffer(op.which + i, offsets);
      if (buffer == kBuffers) break;
      // Often whole pages, as a page cache has them.
      const std::size_t head =
          op.b % 4 == 0 ? 256 * (op.a % 3) : (op.a + i * 77) % 600;
      const std::uint64_t size =
          op.b % 8 == 0 ? 256 * (1 + op.b % 5) : 1 + (op.b + i * 331) % 1200;
      offsets.push_back(buffer * kStride + head);
      for (std::uint64_t k = 0; k < size; ++k) {
        Put(offsets.back() + k, Value(op.c + k + i));
      }
      list.push_back({arena_.at(offsets.back()), size});
    }
    if (list.empty()) return;
    std::vector<Mapping> out(list.size());
    const auto r = domain_.MapScatter(list, direction, out, attributes);
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (r.ok()) {
        Added({out[i], offsets[i], attributes == kOverwrites, {}}, attributes);
      } else {
        // Some were mapped for a moment: a deferred domain has to forget them.
        out[i].size = list[i].size;
        waiting_.push_back(
            {{out[i], offsets[i], false, {}}, domain_.Retired()});
        waiting_.back().was.mapping.iova = Iova(0);
      }
    }
    if (!r.ok()) RC_ASSERT(IsRefusal(r.error()));
  }
  // Of a buffer with a byte that cannot be reached, which a mode may have to
  // copy: if it is refused, the device reaches nothing of it.
  void MapWithHole(const Op& op) {
    const std::size_t buffer = FreeBuffer(op.which, {});
    if (buffer == kBuffers) return;
    const std::size_t at = buffer * kStride + op.a % 600;
    const std::uint64_t size = 1 + op.b % 1200;
    for (std::uint64_t k = 0; k < size; ++k) Put(at + k, kRefused);
    const std::uint64_t before = RefusedInReach();
    const Direction direction = DirectionOf(op.c);
    domain_.memory().hole = PhysRange::Byte(arena_.at(at + op.c % size));
    const auto r = domain_.Map(arena_.at(at), size, direction);
    domain_.memory().hole.reset();
    if (r.ok()) return Added({*r, at, false, {}}, kNone);
    RC_ASSERT(r.error() == Error::kUnsupported || IsRefusal(r.error()));
    RC_ASSERT(RefusedInReach() <= before);
    for (std::uint64_t k = 0; k < size; ++k) Put(at + k, kSecret);
  }
  std::uint64_t RefusedInReach() {
    std::uint64_t bytes = 0;
    for (const auto& [number, entry] : domain_.invalidation().remembered()) {
      (void)number;
      if (arena_.range().Contains(entry.memory)) continue;
      const std::byte* const page = PointerTo(entry.memory);
      bytes +=
          static_cast<std::uint64_t>(std::count(page, page + kPage, kRefused));
    }
    return bytes;
  }
  static bool IsRefusal(Error e) {
    return e == Error::kNoSpace || e == Error::kLimit || e == Error::kNoMemory;
  }

  void OnMapping(const Op& op, std::size_t index) {
    Live& l = live_[index];
    const std::uint64_t size = l.mapping.size;
    const std::uint64_t offset = op.a % size;
    const std::uint64_t n = 1 + op.b % (size - offset);
    switch (op.kind) {
      case Kind::kUnmap:
        if (!l.reservation) End({index}, op.c % 4 == 0 ? kSkip : kNone);
        return;
      case Kind::kUnlink:
        return Unlink(op);
      case Kind::kFailingUnmap:
        return FailingUnmap(index);
      case Kind::kSyncForCpu:
        RC_ASSERT(domain_.SyncForCpu(l.mapping, offset, n).ok());
        return TakeSeen(l, offset, n);
      case Kind::kSyncForDevice:
        RC_ASSERT(domain_.SyncForDevice(l.mapping, offset, n).ok());
        for (std::uint64_t i = offset; i < offset + n && !l.overwritten; ++i) {
          RC_ASSERT(Seen(l.mapping.iova + i) == expected_[l.offset + i]);
        }
        return;
      case Kind::kCpuWrite:
        for (std::uint64_t i = offset; i < offset + n; ++i) {
          Put(l.offset + i, Value(op.c + i));
        }
        return;
      case Kind::kBadUnmap:
        return BadUnmap(op, l);
      default:
        RC_ASSERT(
            domain_.SyncForCpu(l.mapping, offset, size - offset + 1).error() ==
            Error::kOutOfRange);
        RC_ASSERT(domain_.SyncForDevice(l.mapping, size + op.a, n).error() ==
                  Error::kOutOfRange);
    }
  }

  // Ends the live mappings with these indices, ascending.
  void End(const std::vector<std::size_t>& indices, MapAttributes attributes,
           bool links = false) {
    std::vector<Mapping> list;
    for (const std::size_t i : indices) list.push_back(live_[i].mapping);
    // What is drained is what the device sees now: it is quiet meanwhile.
    for (const std::size_t i : indices) {
      if (attributes == kNone) TakeSeen(live_[i], 0, live_[i].mapping.size);
    }
    const auto r = links              ? domain_.Unlink(list, attributes)
                   : list.size() == 1 ? domain_.Unmap(list[0], attributes)
                                      : domain_.UnmapScatter(list, attributes);
    RC_ASSERT(r.ok());
    Retire(indices, false);
  }
  void Retire(const std::vector<std::size_t>& indices, bool for_ever) {
    for (auto it = indices.rbegin(); it != indices.rend(); ++it) {
      ended_.push_back(live_[*it].mapping);
      waiting_.push_back({live_[*it], domain_.Retired(), for_ever});
      live_.erase(live_.begin() + static_cast<std::ptrdiff_t>(*it));
    }
    if (flush_ != FlushMode::kStrict) return;
    for (const Waiting& w : waiting_)
      RC_ASSERT(w.for_ever || domain_.IsSafe(w.ticket));
  }
  void UnmapAll(const Op& op) {
    std::vector<std::size_t> indices;
    for (std::size_t i = 0; i < live_.size(); ++i) {
      if (!live_[i].reservation && (op.a >> i % 16 & 1) != 0)
        indices.push_back(i);
    }
    if (!indices.empty()) End(indices, op.c % 4 == 0 ? kSkip : kNone);
  }

  // The device does not let go: address, pages and buffer stay taken for ever.
  void FailingUnmap(std::size_t index) {
    const Live l = live_[index];
    if (waiting_.size() > 6 || domain_.stats().waiting != 0) return;
    const bool pooled =
        mode_ == DomainMode::kPooled || mode_ == DomainMode::kAutomatic;
    if (pooled || (flush_ == FlushMode::kDeferred && !l.reservation)) return;
    TakeSeen(l, 0, l.mapping.size);
    domain_.invalidation().fail_invalidation = true;
    const auto r = l.reservation ? domain_.Unlink({&l.mapping, 1})
                                 : domain_.Unmap(l.mapping);
    domain_.invalidation().fail_invalidation = false;
    RC_ASSERT(!r.ok() && r.error() == Error::kDevice);
    if (l.reservation) held_[*l.reservation].stuck = true;
    Retire({index}, true);
  }

  void BadUnmap(const Op& op, const Live& l) {
    Mapping bad = l.mapping;
    if (op.c % 5 == 0) bad.size += 1 + op.a % 100;
    if (op.c % 5 == 1) ++bad.tag;
    if (op.c % 5 == 2) bad.iova = bad.iova + 1 + op.a % 5000;
    if (op.c % 5 == 3) bad.direction = DirectionOf(op.a);
    if (op.c % 5 == 4 && !ended_.empty()) bad = At(ended_, op.a);
    const auto other = l.reservation ? domain_.Unmap(l.mapping)
                                     : domain_.Unlink({&l.mapping, 1});
    RC_ASSERT(!other.ok());
    if (std::any_of(live_.begin(), live_.end(),
                    [&](const Live& o) { return o.mapping == bad; })) {
      return;
    }
    RC_ASSERT(!domain_.Unmap(bad).ok());
    RC_ASSERT(!domain_.SyncForDevice(bad, 0, 1).ok());
    const Mapping twice[] = {l.mapping, l.mapping};
    RC_ASSERT(!domain_.UnmapScatter(twice).ok());
  }

  // --- Two steps ---

  void Reserve(const Op& op) {
    if (held_.size() >= 4) return;
    const auto r = domain_.Reserve(1 + op.b % 3000, arena_.at(op.a % kPage));
    if (mode_ == DomainMode::kPooled) {
      RC_ASSERT(r.error() == Error::kUnsupported);
      return;
    }
    if (r.ok()) {
      RC_ASSERT(r->iova.value() % kPage == op.a % kPage);
      held_.push_back({*r});
    } else {
      RC_ASSERT(IsRefusal(r.error()));
    }
  }
  void Link(const Op& op) {
    if (held_.empty()) return;
    const std::size_t which = op.which % held_.size();
    const Reservation held = held_[which].value;
    const std::uint64_t offset = op.a % held.size;
    const std::uint64_t size = 1 + op.b % 1000;
    const std::size_t buffer = FreeBuffer(op.c, {});
    if (buffer == kBuffers) return;
    const std::size_t at =
        buffer * kStride + (held.iova.value() + offset) % kPage;
    for (std::uint64_t k = 0; k < size; ++k) Put(at + k, Value(op.c + k));
    const Direction direction = DirectionOf(op.c);
    const MapAttributes attributes = AttributesOf(op.c, direction);
    RC_ASSERT(domain_.Link(held, offset, arena_.at(at) + 1, size, direction)
                  .error() == (size > held.size - offset
                                   ? Error::kOutOfRange
                                   : Error::kInvalidArgument));
    const auto link =
        domain_.Link(held, offset, arena_.at(at), size, direction, attributes);
    if (link.ok()) {
      RC_ASSERT(link->iova == held.iova + offset);
      return Added({*link, at, attributes == kOverwrites, which}, attributes);
    }
    RC_ASSERT(link.error() == Error::kOutOfRange ||
              link.error() == Error::kOverlap || IsRefusal(link.error()));
    if (link.error() == Error::kOutOfRange)
      RC_ASSERT(size > held.size - offset);
    Mapping was{Iova(0), size, direction, 0};
    Hide({was, at, false, {}});  // its end, if any, was strict
  }
  void Unlink(const Op& op) {
    std::vector<std::size_t> indices;
    for (std::size_t i = 0; i < live_.size(); ++i) {
      if (live_[i].reservation && (op.a >> i % 16 & 1) != 0)
        indices.push_back(i);
    }
    if (!indices.empty()) End(indices, op.c % 4 == 0 ? kSkip : kNone, true);
  }
  void Release(const Op& op) {
    if (held_.empty()) return;
    const std::size_t which = op.which % held_.size();
    Held& held = held_[which];
    Reservation bad = held.value;
    ++bad.size;
    RC_ASSERT(domain_.Release(bad).error() == Error::kMismatch);
    const bool linked =
        std::any_of(live_.begin(), live_.end(),
                    [&](const Live& l) { return l.reservation == which; });
    const auto r = domain_.Release(held.value);
    RC_ASSERT(r.ok() == !(linked || held.stuck));
    if (!r.ok()) {
      RC_ASSERT(r.error() == Error::kBusy);
      return;
    }
    RC_ASSERT(!domain_.Release(held.value).ok());
    held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(which));
    for (Live& l : live_) {
      if (l.reservation && *l.reservation > which) --*l.reservation;
    }
  }

  void Coherent(const Op& op) {
    const auto block = domain_.AllocateCoherent(1 + op.b % 1000);
    if (!block.ok()) {
      RC_ASSERT(IsRefusal(block.error()));
      return;
    }
    for (std::uint64_t i = 0; i < block->size; ++i) {
      RC_ASSERT(Seen(block->iova + i) == std::byte{0});
    }
    block->cpu[0] = std::byte{7};
    RC_ASSERT(Seen(block->iova) == std::byte{7});
    RC_ASSERT(domain_.FreeCoherent(*block).ok());
    RC_ASSERT(!domain_.invalidation().Remembers(
        *Range::FromSize(block->iova, block->size)));
  }

  // --- The device ---

  bool IsBody(PhysAddr memory) const {
    const auto in = [&](const Live& l) {
      return PhysRange::FromSize(arena_.at(l.offset), l.mapping.size)
          ->Contains(memory);
    };
    return std::any_of(live_.begin(), live_.end(), in) ||
           std::any_of(waiting_.begin(), waiting_.end(),
                       [&](const Waiting& w) { return in(w.was); });
  }
  void Write(Iova at, std::byte value) {
    std::byte* const p = domain_.invalidation().Reach(at, Permission::kWrite);
    if (p == nullptr) return;
    *p = value;
    if (!arena_.range().Contains(PhysAddrOf(p))) return;
    // The buffer itself: only where the mode says so.
    RC_ASSERT(mode_ == DomainMode::kDirect || IsBody(PhysAddrOf(p)));
    expected_[static_cast<std::size_t>(p - arena_.data())] = value;
  }
  void HostileWrite(const Op& op, std::uint64_t n) {
    const Iova first(op.a * 7 % (2 * kBounceSize - n));
    for (std::uint64_t i = 0; i < n; ++i) Write(first + i, Value(op.c + i));
  }
  // Everything that it remembers.
  void HostileFlood(const Op& op) {
    std::vector<std::uint64_t> pages;
    for (const auto& [number, entry] : domain_.invalidation().remembered()) {
      (void)entry;
      pages.push_back(number);
    }
    for (const std::uint64_t number : pages) {
      for (std::uint64_t i = op.a % 5; i < kPage; i += 1 + op.b % 7) {
        Write(Iova(number * kPage + i), Value(op.c + i));
      }
    }
  }

  DomainMode mode_;
  FlushMode flush_;
  Arena arena_{kBuffers * kStride};
  Bytes expected_;
  std::vector<Live> live_;
  std::vector<Waiting> waiting_;
  std::vector<Mapping> ended_;
  std::vector<Held> held_;
  bool safe_is_safe_ = true;
  DomainType domain_;
};

rc::Gen<Op> GenOp() {
  return rc::gen::build<Op>(
      rc::gen::set(
          &Op::kind,
          rc::gen::map(rc::gen::inRange(0, static_cast<int>(Kind::kCount)),
                       [](int k) { return static_cast<Kind>(k); })),
      rc::gen::set(&Op::which, rc::gen::inRange(0u, 1000u)),
      rc::gen::set(&Op::a, rc::gen::inRange(0u, 70000u)),
      rc::gen::set(&Op::b, rc::gen::inRange(0u, 20000u)),
      rc::gen::set(&Op::c, rc::gen::inRange(0u, 1000u)));
}

using Program = std::vector<Op>;

template <class DomainType>
void RunOn(const Program& program, DomainMode mode, FlushMode flush) {
  World<DomainType> world(mode, flush);
  for (const Op& op : program) {
    world.Run(op);
    world.Check();
  }
  world.End();
}
void Play(DomainMode mode, FlushMode flush) {
  RunOn<TableDomain>(*rc::gen::scale(0.8, rc::gen::container<Program>(GenOp())),
                     mode, flush);
}

constexpr auto kStrict = FlushMode::kStrict;
constexpr auto kDeferred = FlushMode::kDeferred;

RC_GTEST_PROP(ModesModel, Bounce, ()) { Play(DomainMode::kBounce, kStrict); }
RC_GTEST_PROP(ModesModel, BounceDeferred, ()) {
  Play(DomainMode::kBounce, kDeferred);
}
RC_GTEST_PROP(ModesModel, Direct, ()) { Play(DomainMode::kDirect, kStrict); }
RC_GTEST_PROP(ModesModel, DirectDeferred, ()) {
  Play(DomainMode::kDirect, kDeferred);
}
RC_GTEST_PROP(ModesModel, UnalignedEnds, ()) {
  Play(DomainMode::kUnalignedEnds, kStrict);
}
RC_GTEST_PROP(ModesModel, UnalignedEndsDeferred, ()) {
  Play(DomainMode::kUnalignedEnds, kDeferred);
}
RC_GTEST_PROP(ModesModel, Pooled, ()) { Play(DomainMode::kPooled, kStrict); }
RC_GTEST_PROP(ModesModel, Automatic, ()) {
  Play(DomainMode::kAutomatic, kStrict);
}
RC_GTEST_PROP(ModesModel, AutomaticDeferred, ()) {
  Play(DomainMode::kAutomatic, kDeferred);
}

// --- Negative controls ---

// The device forgets nothing, and says that it did.
struct ForgetsNothing : TableIommu {
  Result<void> Invalidate(Range) { return InvalidateAll(); }
  Result<void> InvalidateAll() {
    ++invalidations;
    return fail_invalidation ? Result<void>(Error::kDevice) : Ok();
  }
};
// It forgets what it was asked to, unless all of it.
struct ForgetsOneRange : TableIommu {
  Result<void> InvalidateAll() { return Ok(); }
};
// The last page of what is unmapped stays in the tables.
struct LeavesTheLastPage : TableIommu {
  Result<void> Unmap(Range range) {
    const auto last = range.SplitAt(
        Range::Byte(range.last()).RoundOutToPages(page()).first());
    return last.ok() ? TableIommu::Unmap(last->first) : Ok();
  }
};
// Pages as their last owner left them.
struct DirtyPages : testing_parts::KnownPages {
  Result<std::byte*> Allocate(PageSize page, std::uint64_t pages) {
    const auto made = KnownPages::Allocate(page, pages);
    if (made.ok()) {
      std::memset(*made, static_cast<int>(kSecret), pages * page.bytes());
    }
    return made;
  }
};

template <class Iommu>
struct LyingPolicies : testing_parts::TablePolicies {
  using Invalidation = Iommu;
};
struct DirtyPolicies : testing_parts::TablePolicies {
  using Pages = DirtyPages;
};

// The same 8 programs each time: of how many the oracle says that something is
// wrong.
template <class Policies>
int Found(DomainMode mode, FlushMode flush) {
  int found = 0;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const auto program =
        rc::gen::container<Program>(GenOp())(rc::Random(seed), 100).value();
    try {
      RunOn<Domain<Policies>>(program, mode, flush);
    } catch (const rc::detail::CaseResult&) {
      ++found;
    }
  }
  return found;
}

constexpr DomainMode kModes[] = {DomainMode::kBounce, DomainMode::kDirect,
                                 DomainMode::kUnalignedEnds,
                                 DomainMode::kPooled, DomainMode::kAutomatic};

// That `Policies` is found out, in every mode.
template <class Policies>
void ExpectFound() {
  for (const DomainMode mode : kModes) {
    for (const FlushMode flush : {kStrict, kDeferred}) {
      EXPECT_GE(Found<Policies>(mode, flush), 3)
          << ToString(mode) << (flush == kStrict ? " strict" : " deferred");
    }
  }
}

TEST(ModesModelControl, TheSameProgramsHoldOnWhatDoesNotLie) {
  for (const DomainMode mode : kModes) {
    for (const FlushMode flush : {kStrict, kDeferred}) {
      EXPECT_EQ(Found<testing_parts::TablePolicies>(mode, flush), 0);
    }
  }
}
TEST(ModesModelControl, AnInvalidationThatDoesNothing) {
  ExpectFound<LyingPolicies<ForgetsNothing>>();
}
TEST(ModesModelControl, AnInvalidationOfEverythingThatDoesNothing) {
  ExpectFound<LyingPolicies<ForgetsOneRange>>();
}
TEST(ModesModelControl, AnUnmapThatLeavesATranslation) {
  ExpectFound<LyingPolicies<LeavesTheLastPage>>();
}
TEST(ModesModelControl, PagesThatAreNotZeroed) { ExpectFound<DirtyPolicies>(); }

}  // namespace
}  // namespace dmamap
