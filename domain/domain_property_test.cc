// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Driver, domain and device memory against an oracle that knows, for each byte
// that the device can see, whose it is. After each step: every visible page is
// byte for byte what the oracle says, every byte outside the bodies of live
// mappings is zero, no page shows buffers that may not share it, the driver's
// whole arena is as the oracle has it (so that nothing outside a buffer was
// ever written back), and CheckInvariants holds.

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
#include "domain/parts_for_test.h"
#include "testing/domain_port.h"

namespace dmamap {
namespace {

using testing_parts::Bytes;
using testing_parts::WatchedDomain;

constexpr std::uint64_t kPage = 256;
constexpr std::uint64_t kBounceSize = 256 * kPage;
constexpr std::size_t kBuffers = 12;
constexpr std::size_t kStride = 2048;  // each buffer's share of the arena
constexpr std::uint32_t kMostOwners = 3;
constexpr auto kNone = MapAttributes::kNone;
constexpr auto kSkip = MapAttributes::kSkipSync;
constexpr auto kOverwrites = MapAttributes::kDeviceOverwritesAll;

enum class Kind : int {
  kMap,
  kUnmap,
  kDeviceRead,
  kDeviceWrite,
  kSyncForCpu,
  kSyncForDevice,
  kCpuWrite,
  kFault,
  kMapScatter,
  kBadUnmap,
  kBadSync,
  kAllocateCoherent,
  kFreeCoherent,
  kReclaim,
  kCount,
};

struct Op {
  Kind kind = Kind::kMap;
  std::uint32_t which = 0;  // mapping, buffer
  std::uint32_t a = 0;      // offset
  std::uint32_t b = 0;      // size
  std::uint32_t c = 0;      // direction, attributes, value
};
std::ostream& operator<<(std::ostream& os, const Op& op) {
  return os << "{" << static_cast<int>(op.kind) << " " << op.which << " "
            << op.a << " " << op.b << " " << op.c << "}";
}

struct Variant {
  unsigned bounce_shift = 8;  // log2 of a bounce page's bytes
  std::uint64_t min_align_mask = 0;
  PageSharing sharing = PageSharing::kNothing;
  std::uint32_t owners = 1;
  // What the oracle believes of the two above, if it is something else.
  std::optional<PageSharing> believed_sharing = {};
  bool believes_all_one = false;  // hears of one owner, where there are more
};

// A live mapping, as the oracle knows it.
struct Live {
  Mapping mapping;
  std::size_t offset = 0;  // of the buffer in the arena
  bool filled = true;      // the original is shown on a fresh page
  bool overwritten = false;
  std::uint32_t owner = 0;
  Range body() const { return *Range::FromSize(mapping.iova, mapping.size); }
};

class World {
 public:
  explicit World(const Variant& v)
      : v_(v),
        bounce_(*PageSize::FromShift(v.bounce_shift)),
        slot_(v.sharing == PageSharing::kNothing
                  ? bounce_
                  : *PageSize::FromBytes(kPage)) {
    RC_ASSERT(domain_
                  .Init({.limit = Iova(2 * kBounceSize - 1),
                         .bounce_size = kBounceSize,
                         .page = *PageSize::FromBytes(kPage),
                         .bounce_page = bounce_,
                         .sharing = v.sharing,
                         .owners = v.owners,
                         .min_align_mask = v.min_align_mask,
                         .max_mappings = 40})
                  .ok());
    for (std::size_t i = 0; i < arena_.size(); ++i) {
      arena_[i] = static_cast<std::byte>(1 + i % 251);
    }
    expected_ = arena_;
  }

  void Run(const Op& op) {
    switch (op.kind) {
      case Kind::kMap:
        return (void)Map(op, 1);
      case Kind::kMapScatter:
        return Map(op, 1 + op.which % 5);
      case Kind::kAllocateCoherent:
        return AllocateCoherent(op);
      case Kind::kFreeCoherent:
        return FreeCoherent(op);
      case Kind::kReclaim:
        return Reclaim();
      case Kind::kFault:
        return FaultAnywhere(op);
      default:
        if (!live_.empty()) OnMapping(op, live_[op.which % live_.size()]);
    }
  }

  void Check() {
    RC_ASSERT(domain_.CheckInvariants());
    RC_ASSERT(arena_ == expected_);
    RC_ASSERT(domain_.stats().live == live_.size());
    // Every page that is there and that the device may see.
    Bytes owned(kBounceSize);  // 0xff where a live mapping's body is
    for (const Live& l : live_) {
      std::memset(&owned[l.mapping.iova.value()], 0xff, l.mapping.size);
    }
    for (const auto& [number, bytes] : pages_) {
      const Iova first(number << bounce_.shift());
      const auto page = domain_.Fault(first);
      RC_ASSERT(page.ok() == IsMapped(PageRange(number)));
      if (!page.ok()) continue;
      RC_ASSERT(MayShare(PageRange(number)));
      RC_ASSERT(std::memcmp(page->page, bytes.data(), bytes.size()) == 0);
      bool foreign = false;
      for (std::uint64_t i = 0; i < bounce_.bytes(); ++i) {
        foreign |= (page->page[i] & ~owned[first.value() + i]) != std::byte{0};
      }
      RC_ASSERT(!foreign);
    }
    for (const CoherentBlock& block : blocks_) {
      RC_ASSERT(domain_.Fault(block.iova)->page == block.cpu);
    }
  }

  void End() {
    std::vector<Mapping> all;
    for (const Live& l : live_) all.push_back(l.mapping);
    RC_ASSERT(domain_.ReportLeaks([](const Leak&) {}) ==
              all.size() + blocks_.size());
    if (!all.empty()) RC_ASSERT(domain_.UnmapScatter(all, kSkip).ok());
    for (const auto& b : blocks_) RC_ASSERT(domain_.FreeCoherent(b).ok());
    RC_ASSERT(arena_ == expected_);
    RC_ASSERT(domain_.Shutdown([](const Leak&) {}).ok());
    RC_ASSERT(domain_.pages().inner.in_use() == 0);
  }

 private:
  Range Slots(const Live& l) const { return l.body().RoundOutToPages(slot_); }
  // Whether the buffers that this page shows may be on one page.
  bool MayShare(Range page) const {
    std::size_t buffers = 0;
    bool one_owner = true;
    std::uint32_t owner = 0;
    for (const Live& l : live_) {
      if (!l.body().Overlaps(page)) continue;
      one_owner = one_owner && (buffers == 0 || l.owner == owner);
      owner = l.owner;
      ++buffers;
    }
    return v_.believed_sharing.value_or(v_.sharing) == PageSharing::kNothing
               ? buffers <= 1
               : one_owner;
  }
  Range PageRange(std::uint64_t number) const {
    return Range::Byte(Iova(number << bounce_.shift()))
        .RoundOutToPages(bounce_);
  }
  bool IsMapped(Range range) const {
    return std::any_of(live_.begin(), live_.end(),
                       [&](const Live& l) { return l.body().Overlaps(range); });
  }

  // --- The oracle's own bounce pages ---

  // Byte `at` of device memory; nullptr when its page is not there.
  std::byte* Shadow(Iova at) {
    const auto it = pages_.find(bounce_.Number(at));
    return it == pages_.end() ? nullptr
                              : &it->second[bounce_.Offset(at.value())];
  }
  // What a fresh sight of `at` shows: the one mapping's byte, or zero.
  std::byte Original(const Live& l, Iova at) const {
    if (!l.filled || !l.body().Contains(at)) return std::byte{0};
    return expected_[l.offset + (at - l.mapping.iova)];
  }
  void MakePage(Iova at) {
    const std::uint64_t number = bounce_.Number(at);
    if (pages_.count(number) != 0) return;
    Bytes& page = pages_[number];
    page.assign(bounce_.bytes(), std::byte{0});
    for (const Live& l : live_) {
      const auto part = l.body().Intersect(PageRange(number));
      if (!part.ok()) continue;
      for (Iova byte = part->first(); byte <= part->last(); byte = byte + 1) {
        page[bounce_.Offset(byte.value())] = Original(l, byte);
      }
    }
  }
  void OverwriteSlots(const Live& l) {
    for (Iova at = Slots(l).first(); at <= Slots(l).last(); at = at + 1) {
      if (std::byte* s = Shadow(at)) *s = Original(l, at);
    }
  }
  void CopyOut(const Live& l, std::uint64_t offset, std::uint64_t size) {
    for (std::uint64_t i = offset; i < offset + size; ++i) {
      const std::byte* const s = Shadow(l.mapping.iova + i);
      if (s != nullptr) expected_[l.offset + i] = *s;
    }
  }

  // --- The steps ---

  static Direction DirectionOf(std::uint32_t c) {
    return static_cast<Direction>(c % 3);
  }
  static MapAttributes AttributesOf(std::uint32_t c, Direction d) {
    const std::uint32_t kind = (c / 3) % 6;
    if (kind == 0) return kSkip;
    if (kind == 1 && d == Direction::kFromDevice) return kOverwrites;
    return kNone;
  }

  void Map(const Op& op, std::size_t count) {
    const Direction direction = DirectionOf(op.c);
    const MapAttributes attributes = AttributesOf(op.c, direction);
    std::vector<ScatterEntry> list;
    std::vector<std::size_t> offsets;
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t buffer = FreeBuffer(op.which + i, offsets);
      if (buffer == kBuffers) break;
      const std::size_t head = (op.a + i * 77) % 600;
      offsets.push_back(buffer * kStride + head);
      const std::uint64_t size = 1 + (op.b + i * 331) % 1200;
      list.push_back({PhysAddrOf(arena_.data() + offsets.back()), size});
    }
    if (list.empty()) return;
    std::vector<Mapping> out(list.size());
    const std::uint32_t owner = v_.owners == 1 ? 0 : op.c / 18 % kMostOwners;
    const std::uint32_t told = v_.believes_all_one ? 0 : owner;
    const auto r = domain_.For(BufferOwner{told})
                       .MapScatter(list, direction, out, attributes);
    if (told >= v_.owners) {
      RC_ASSERT(r.error() == Error::kInvalidArgument);
      return;
    }
    if (!r.ok()) {
      RC_ASSERT(r.error() == Error::kNoSpace || r.error() == Error::kLimit);
      // Slots of an undone map were overwritten; nobody can see them, unless
      // they are on a page that others share, and there they are zero.
      for (auto& [number, bytes] : pages_) ForgetUnowned(number, bytes);
      return;
    }
    for (std::size_t i = 0; i < out.size(); ++i) {
      const Live l{out[i], offsets[i], attributes == kNone,
                   attributes == kOverwrites, owner};
      for (const Live& other : live_) {
        RC_ASSERT(!Slots(other).Overlaps(Slots(l)));
      }
      live_.push_back(l);
      OverwriteSlots(l);
    }
  }

  // A buffer that no live mapping and none of `taken` uses; kBuffers: none.
  std::size_t FreeBuffer(std::size_t from,
                         const std::vector<std::size_t>& taken) const {
    for (std::size_t i = 0; i < kBuffers; ++i) {
      const std::size_t n = (from + i) % kBuffers;
      const auto uses = [&](std::size_t offset) {
        return offset / kStride == n;
      };
      if (std::none_of(taken.begin(), taken.end(), uses) &&
          std::none_of(live_.begin(), live_.end(),
                       [&](const Live& l) { return uses(l.offset); })) {
        return n;
      }
    }
    return kBuffers;
  }

  // Takes what the domain has now in slots that nobody owns, having checked
  // that it is zero where others can see it.
  void ForgetUnowned(std::uint64_t number, Bytes& bytes) {
    const auto page = domain_.Fault(PageRange(number).first());
    for (std::uint64_t i = 0; i < bytes.size(); ++i) {
      const Iova at = PageRange(number).first() + i;
      const bool owned =
          std::any_of(live_.begin(), live_.end(),
                      [&](const Live& l) { return Slots(l).Contains(at); });
      if (owned) continue;
      if (page.ok()) RC_ASSERT(page->page[i] == std::byte{0});
      bytes[i] = std::byte{0};
    }
  }

  void OnMapping(const Op& op, Live& l) {
    const std::uint64_t size = l.mapping.size;
    const std::uint64_t offset = op.a % size;
    const std::uint64_t n = 1 + op.b % (size - offset);
    switch (op.kind) {
      case Kind::kUnmap:
        return Unmap(op, static_cast<std::size_t>(&l - live_.data()));
      case Kind::kDeviceRead:
        return DeviceRead(l, offset, n);
      case Kind::kDeviceWrite:
        return DeviceWrite(l, offset, n, op.c);
      case Kind::kSyncForCpu:
        RC_ASSERT(domain_.SyncForCpu(l.mapping, offset, n).ok());
        if (DeviceWrites(l.mapping.direction)) CopyOut(l, offset, n);
        return;
      case Kind::kSyncForDevice:
        return SyncForDevice(l, offset, n);
      case Kind::kCpuWrite:
        for (std::uint64_t i = offset; i < offset + n; ++i) {
          arena_[l.offset + i] = expected_[l.offset + i] =
              static_cast<std::byte>(1 + (op.c + i) % 255);
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

  void Unmap(const Op& op, std::size_t index) {
    const Live l = live_[index];
    const MapAttributes attributes = op.c % 4 == 0 ? kSkip : kNone;
    RC_ASSERT(domain_.Unmap(l.mapping, attributes).ok());
    if (attributes == kNone && DeviceWrites(l.mapping.direction)) {
      CopyOut(l, 0, l.mapping.size);
    }
    live_.erase(live_.begin() + static_cast<std::ptrdiff_t>(index));
    ended_.push_back(l.mapping);
    for (Iova at = Slots(l).first(); at <= Slots(l).last(); at = at + 1) {
      if (std::byte* s = Shadow(at)) *s = std::byte{0};
    }
  }

  void DeviceRead(const Live& l, std::uint64_t offset, std::uint64_t n) {
    Bytes got(n);
    const Transfer t = port_.Read(l.mapping.iova + offset, got.data(), n);
    if (!DeviceReads(l.mapping.direction)) {
      RC_ASSERT(t.bytes == 0 && t.error() == Error::kPermission);
      return;
    }
    RC_ASSERT(t.ok());
    Bytes want(n);
    for (std::uint64_t i = 0; i < n; ++i) {
      MakePage(l.mapping.iova + offset + i);
      want[i] = *Shadow(l.mapping.iova + offset + i);
    }
    RC_ASSERT(got == want);
  }

  void DeviceWrite(const Live& l, std::uint64_t offset, std::uint64_t n,
                   std::uint32_t value) {
    const Bytes data(n, static_cast<std::byte>(1 + value % 255));
    const Transfer t = port_.Write(l.mapping.iova + offset, data.data(), n);
    if (!DeviceWrites(l.mapping.direction)) {
      RC_ASSERT(t.bytes == 0 && t.error() == Error::kPermission);
      return;
    }
    RC_ASSERT(t.ok());
    for (std::uint64_t i = 0; i < n; ++i) {
      MakePage(l.mapping.iova + offset + i);
      *Shadow(l.mapping.iova + offset + i) = data[i];
    }
  }

  void SyncForDevice(const Live& l, std::uint64_t offset, std::uint64_t n) {
    RC_ASSERT(domain_.SyncForDevice(l.mapping, offset, n).ok());
    if (l.overwritten) return;
    for (std::uint64_t i = offset; i < offset + n; ++i) {
      const Iova at = l.mapping.iova + i;
      if (!l.filled) MakePage(at);
      if (std::byte* s = Shadow(at)) *s = expected_[l.offset + i];
    }
  }

  void BadUnmap(const Op& op, const Live& l) {
    Mapping bad = l.mapping;
    if (op.c % 5 == 0) bad.size += 1 + op.a % 100;
    if (op.c % 5 == 1) ++bad.tag;
    if (op.c % 5 == 2) bad.iova = bad.iova + 1 + op.a % 5000;
    if (op.c % 5 == 3) bad.direction = DirectionOf(op.a);
    if (op.c % 5 == 4 && !ended_.empty()) bad = ended_[op.a % ended_.size()];
    if (bad == l.mapping) return;
    RC_ASSERT(!domain_.Unmap(bad).ok());
    RC_ASSERT(!domain_.SyncForDevice(bad, 0, 1).ok());
  }

  // A device that looks anywhere in the stream space.
  void FaultAnywhere(const Op& op) {
    const Iova at(op.a % kBounceSize);
    const auto page = domain_.Fault(at);
    const bool mapped = IsMapped(PageRange(bounce_.Number(at)));
    RC_ASSERT(page.ok() == mapped);
    if (mapped) MakePage(at);
  }

  void AllocateCoherent(const Op& op) {
    const auto block = domain_.AllocateCoherent(1 + op.b % 1000);
    if (!block.ok()) {
      RC_ASSERT(block.error() == Error::kLimit ||
                block.error() == Error::kNoSpace);
      return;
    }
    Bytes seen(block->size, std::byte{1});
    RC_ASSERT(port_.Read(block->iova, seen.data(), seen.size()).ok());
    RC_ASSERT(seen == Bytes(block->size));
    std::memset(block->cpu, 0x99, block->size);
    RC_ASSERT(port_.Read(block->iova, seen.data(), seen.size()).ok());
    RC_ASSERT(seen == Bytes(block->size, std::byte{0x99}));
    blocks_.push_back(*block);
  }

  void FreeCoherent(const Op& op) {
    if (blocks_.empty()) return;
    const auto it = blocks_.begin() +
                    static_cast<std::ptrdiff_t>(op.which % blocks_.size());
    CoherentBlock bad = *it;
    ++bad.size;
    RC_ASSERT(domain_.FreeCoherent(bad).error() == Error::kMismatch);
    RC_ASSERT(domain_.FreeCoherent(*it).ok());
    RC_ASSERT(domain_.FreeCoherent(*it).error() == Error::kNotMapped);
    blocks_.erase(it);
  }

  void Reclaim() {
    domain_.ReclaimIdle();
    for (auto it = pages_.begin(); it != pages_.end();) {
      const Range range = PageRange(it->first);
      const bool busy =
          std::any_of(live_.begin(), live_.end(),
                      [&](const Live& l) { return Slots(l).Overlaps(range); });
      it = busy ? std::next(it) : pages_.erase(it);
    }
  }

  Variant v_;
  PageSize bounce_;
  PageSize slot_;  // what a mapping has to itself
  WatchedDomain domain_;
  DomainPort<WatchedDomain> port_{domain_};
  Bytes arena_ = Bytes(kBuffers * kStride);
  Bytes expected_;
  std::vector<Live> live_;
  std::vector<Mapping> ended_;
  std::vector<CoherentBlock> blocks_;
  std::map<std::uint64_t, Bytes> pages_;  // by number of the bounce page
};

rc::Gen<Op> GenOp() {
  return rc::gen::build<Op>(
      rc::gen::set(
          &Op::kind,
          rc::gen::map(rc::gen::inRange(0, static_cast<int>(Kind::kCount)),
                       [](int k) { return static_cast<Kind>(k); })),
      rc::gen::set(&Op::which, rc::gen::inRange(0u, 1000u)),
      rc::gen::set(&Op::a, rc::gen::inRange(0u, 20000u)),
      rc::gen::set(&Op::b, rc::gen::inRange(0u, 20000u)),
      rc::gen::set(&Op::c, rc::gen::inRange(0u, 1000u)));
}

using Program = std::vector<Op>;

void Run(const Program& program, const Variant& variant) {
  World world(variant);
  for (const Op& op : program) {
    world.Run(op);
    world.Check();
  }
  world.End();
}
void Play(const Variant& variant) {
  Run(*rc::gen::scale(1.4, rc::gen::container<Program>(GenOp())), variant);
}

RC_GTEST_PROP(DomainModel, EachMappingItsOwnPages, ()) { Play({}); }
RC_GTEST_PROP(DomainModel, OffsetsPreserved, ()) {
  Play({.bounce_shift = 8, .min_align_mask = 255});
}
RC_GTEST_PROP(DomainModel, MappingsShareBouncePages, ()) {
  Play({.bounce_shift = 10, .sharing = PageSharing::kOwner});
}
RC_GTEST_PROP(DomainModel, MappingsShareHugeBouncePagesAtAnOffset, ()) {
  Play({.bounce_shift = 13,
        .min_align_mask = 127,
        .sharing = PageSharing::kOwner});
}
RC_GTEST_PROP(DomainModel, LargeBouncePagesThatNothingShares, ()) {
  Play({.bounce_shift = 10, .min_align_mask = 127});
}
// One more than there are is refused.
RC_GTEST_PROP(DomainModel, OwnersShareNoBouncePage, ()) {
  Play({.bounce_shift = 11,
        .min_align_mask = 127,
        .sharing = PageSharing::kOwner,
        .owners = *rc::gen::element(2u, kMostOwners)});
}

// --- Negative controls ---

// The same 12 programs each time: of how many the oracle says that they are
// wrong.
int Found(const Variant& variant) {
  int found = 0;
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    const auto program =
        rc::gen::container<Program>(GenOp())(rc::Random(seed), 100).value();
    try {
      Run(program, variant);
    } catch (const rc::detail::CaseResult&) {
      ++found;
    }
  }
  return found;
}

TEST(DomainModelControl, BuffersThatMayNotShareAreFound) {
  Variant shares = {.bounce_shift = 10, .sharing = PageSharing::kOwner};
  EXPECT_EQ(Found(shares), 0);
  shares.believed_sharing = PageSharing::kNothing;
  EXPECT_GE(Found(shares), 4) << "a page with two buffers";
  Variant owners = {.bounce_shift = 11,
                    .sharing = PageSharing::kOwner,
                    .owners = kMostOwners};
  EXPECT_EQ(Found(owners), 0);
  owners.believes_all_one = true;
  EXPECT_GE(Found(owners), 4) << "a page with two owners";
}

}  // namespace
}  // namespace dmamap
