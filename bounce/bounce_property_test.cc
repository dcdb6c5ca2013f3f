// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// A state model of Bounce: random programs of mappings, faults, copies, device
// writes and reclaims run on it and on an oracle that holds every byte of the
// space in one array. After each step the pages that are there, their bytes,
// the record of each slot, the host's memory, every answer and the invariants
// must agree. A byte that a device can read is zero, its own mapping's, or what
// the device itself wrote there. The negative controls are wrappers that each
// forget one thing; programs find them.

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "bounce/bounce.h"
#include "bounce/memory_access.h"
#include "bounce/page_budget.h"
#include "bounce/page_source.h"
#include "bounce/slot.h"
#include "dma/direction.h"

namespace dmamap {
namespace {

using Bytes = std::vector<std::byte>;

// A space of 8 pages; the source has memory for 5.
constexpr std::uint64_t kPage = 256;
constexpr std::uint64_t kPages = 8;
constexpr std::uint64_t kSize = kPages * kPage;
constexpr std::uint64_t kBudget = 5;
constexpr std::uint64_t kMemory = 1700;  // bytes of the host, with buffers

Range RangeOf(std::uint64_t first, std::uint64_t size) {
  return *Range::FromSize(Iova(first), size);
}

// --- A program ---

enum class Kind {
  kMap,          // slots from `a`; one in four is not admitted
  kUnmap,        // the a-th mapping; one that was not admitted is retracted
  kTouch,        // have the page of byte `a` made
  kCopyIn,       // a part of the a-th mapping
  kCopyOut,      //
  kDeviceWrite,  // into page `a`, where it likes
  kCpuWrite,     // into the host's memory
  kReclaim,      // pages from `a`
  kReclaimIdle,
};
constexpr std::array kNames = {"Map",      "Unmap",   "Touch",
                               "CopyIn",   "CopyOut", "DeviceWrite",
                               "CpuWrite", "Reclaim", "ReclaimIdle"};

// What a, b and c mean is the step's affair; each takes them modulo a bound.
struct Step {
  Kind kind = Kind::kMap;
  std::uint64_t a = 0;
  std::uint64_t b = 0;
  std::uint64_t c = 0;
};
using Program = std::vector<Step>;

std::ostream& operator<<(std::ostream& os, const Step& s) {
  return os << kNames[static_cast<std::size_t>(s.kind)] << "(" << s.a << ", "
            << s.b << ", " << s.c << ")";
}

rc::Gen<Program> AnyProgram() {
  const auto kind = rc::gen::weightedElement<Kind>({{8, Kind::kMap},
                                                    {5, Kind::kUnmap},
                                                    {6, Kind::kTouch},
                                                    {2, Kind::kCopyIn},
                                                    {2, Kind::kCopyOut},
                                                    {4, Kind::kDeviceWrite},
                                                    {2, Kind::kCpuWrite},
                                                    {2, Kind::kReclaim},
                                                    {1, Kind::kReclaimIdle}});
  const auto number = rc::gen::inRange<std::uint64_t>(0, 1 << 20);
  // Long enough for pages to change owner: up to 400 steps.
  return rc::gen::scale(
      4.0,
      rc::gen::container<Program>(rc::gen::build<Step>(
          rc::gen::set(&Step::kind, kind), rc::gen::set(&Step::a, number),
          rc::gen::set(&Step::b, number), rc::gen::set(&Step::c, number))));
}

// --- The oracle: one array, and a list ---

struct Live {
  BounceBuffer b;  // `buffer` is an offset in the model's memory
  SlotState state = SlotState::kFilling;
  std::uint32_t tag = 0;
};

struct Model {
  std::array<bool, kPages> there = {};
  Bytes space = Bytes(kSize);  // of pages that are there
  std::vector<bool> written = std::vector<bool>(kSize);  // by the device, last
  Bytes by_device = Bytes(kSize);
  Bytes memory = Bytes(kMemory);
  std::vector<Live> live;
  std::uint64_t copied = 0;

  std::uint64_t Count() const {
    return static_cast<std::uint64_t>(
        std::count(there.begin(), there.end(), true));
  }
  // The mapping whose slots overlap `range`, or null.
  const Live* In(Range range) const {
    for (const Live& l : live) {
      if (l.b.slots.Overlaps(range)) return &l;
    }
    return nullptr;
  }
  bool InUse(std::uint64_t page) const {
    return In(RangeOf(page * kPage, kPage)) != nullptr;
  }
  std::uint64_t ReclaimIdle() {
    std::uint64_t idle = 0;
    for (std::uint64_t p = 0; p < kPages; ++p) {
      if (there[p] && !InUse(p)) {
        there[p] = false;
        ++idle;
      }
    }
    return idle;
  }
  // f(address) for each byte of `range` on a page that is there.
  template <class F>
  void Each(Range range, F f) const {
    for (std::uint64_t at = range.first().value(); at <= range.last().value();
         ++at) {
      if (there[at / kPage]) f(at);
    }
  }
  void Copy(std::uint64_t at, std::byte value) {
    space[at] = value;
    written[at] = false;
  }
  // What the device itself wrote may stay: Agree looks.
  void Scrub(Range range) {
    Each(range, [&](std::uint64_t at) { space[at] = std::byte{0}; });
  }
  void CopyIn(Range part, std::uint64_t from) {
    Each(part, [&](std::uint64_t at) {
      Copy(at, memory[from + (at - part.first().value())]);
      ++copied;
    });
  }
  void CopyOut(Range part, std::uint64_t to) {
    Each(part, [&](std::uint64_t at) {
      memory[to + (at - part.first().value())] = space[at];
      ++copied;
    });
  }
  void Fill(const BounceBuffer& b, Range within) {
    const auto slots = b.slots.Intersect(within);
    if (!slots.ok()) return;
    Scrub(*slots);
    const auto body = b.body.Intersect(within);
    if (!body.ok()) return;
    if (b.fill == BounceFill::kZero) {
      Each(*body, [&](std::uint64_t at) { Copy(at, std::byte{0}); });
    } else {
      CopyIn(*body, b.buffer.value() + (body->first() - b.body.first()));
    }
  }
  void MakePage(std::uint64_t page) {
    const Range range = RangeOf(page * kPage, kPage);
    there[page] = true;
    Each(range, [&](std::uint64_t at) { Copy(at, std::byte{0}); });
    for (const Live& l : live) {
      if (l.state == SlotState::kFilling || l.state == SlotState::kLive) {
        Fill(l.b, range);
      }
    }
  }
};

// --- Both, step by step ---

// Subject: a Bounce, or something that pretends to be one.
template <class Subject>
class Rig {
 public:
  explicit Rig(std::uint64_t slot)
      : slot_(slot),
        source_(kBudget * kPage),
        subject_(source_, memory_access_) {
    good_ = subject_
                .Init({.size = kSize,
                       .page = *PageSize::FromBytes(kPage),
                       .slot = *PageSize::FromBytes(slot),
                       .first_tag = 7})
                .ok() &&
            subject_.Prepare(RangeOf(0, kSize)).ok();
    for (std::uint64_t i = 0; i < kMemory; ++i) {
      model_.memory[i] = static_cast<std::byte>(1 + i % 255);
    }
    memory_ = model_.memory;
  }

  // The first step at which model and subject differ.
  std::optional<std::size_t> FirstDifference(const Program& program) {
    for (std::size_t i = 0; i < program.size(); ++i) {
      Run(program[i]);
      if (!good_ || !Agree()) return i;
    }
    return std::nullopt;
  }

 private:
  void Expect(bool b) { good_ = good_ && b; }
  PhysAddr Host(PhysAddr offset) {
    return PhysAddrOf(memory_.data()) + offset.value();
  }
  BounceBuffer Real(BounceBuffer b) {
    b.buffer = Host(b.buffer);
    return b;
  }
  auto& SlotOf(const Live& l) { return *subject_.SlotAt(l.b.slots.first()); }

  void Run(const Step& s) {
    switch (s.kind) {
      case Kind::kMap:
        return Map(s);
      case Kind::kTouch:
        return Touch(s.a % kSize, s.b);
      case Kind::kDeviceWrite:
        return DeviceWrite(s);
      case Kind::kCpuWrite:
        memory_[s.a % kMemory] = static_cast<std::byte>(s.b);
        model_.memory[s.a % kMemory] = static_cast<std::byte>(s.b);
        return;
      case Kind::kReclaim:
        return Reclaim(s);
      case Kind::kReclaimIdle:
        return Expect(subject_.ReclaimIdle() == model_.ReclaimIdle());
      default:
        if (!model_.live.empty()) OnMapping(s, s.a % model_.live.size());
    }
  }

  void Map(const Step& s) {
    // One start in nine lies behind the space.
    const std::uint64_t slots = kSize / slot_;
    const std::uint64_t first = s.a % (slots + slots / 8) * slot_;
    const std::uint64_t size = (1 + s.b % 6) * slot_;
    const std::uint64_t head = s.c % slot_;
    const std::uint64_t tail = s.c / 7 % (size == slot_ ? slot_ - head : slot_);
    Live l;
    l.b.slots = RangeOf(first, size);
    l.b.body = RangeOf(first + head, size - head - tail);
    l.b.buffer = PhysAddr(s.c % (kMemory - l.b.body.size()));
    l.b.fill = s.c % 3 == 0 ? BounceFill::kZero : BounceFill::kOriginal;
    l.b.direction = static_cast<Direction>(s.c % 3);
    l.b.overwritten = s.c % 2 == 0;
    if (model_.In(l.b.slots) != nullptr) return;  // an allocator would not
    const auto slot = subject_.Prepare(l.b.slots);
    Expect(slot.ok() == (first + size <= kSize));
    if (!slot.ok()) return Expect(slot.error() == Error::kOutOfRange);
    const BounceBuffer b = Real(l.b);
    const SlotWord before((*slot)->word.load());
    if (slot_ == kPage && size == kPage && s.b % 2 == 0) {
      Expect(subject_
                 .ShowSlot(**slot, subject_.WordAfter(before.tag()),
                           b.body.size(), b.buffer, SlotShape(head, b),
                           &copied_)
                 .ok());
    } else {
      Expect(subject_.Show(**slot, b, &copied_).ok());
    }
    model_.Fill(l.b, l.b.slots);
    l.tag = before.tag() == 0 ? 7 : before.tag() + 1;
    if (s.b % 4 != 3) {
      Expect(subject_.Admit(**slot) == l.tag);
      l.state = SlotState::kLive;
    }
    model_.live.push_back(l);
  }

  void Touch(std::uint64_t at, std::uint64_t answer) {
    const std::uint64_t page = at / kPage;
    const bool was_there = model_.there[page];
    std::uint64_t asked = 0;
    // One in 16 is refused at once, one in 16 when the page is being made.
    const auto allowed = [&]() -> Result<void> {
      if (answer % 16 == asked++) return Error::kPermission;
      return Ok();
    };
    bool made = false;
    const auto got = subject_.Touch(Iova(at), allowed, &made, &copied_);
    if (answer % 16 == 0) return ExpectError(got, Error::kPermission);
    if (was_there) {
      return Expect(got.ok() && !made && *got == subject_.PageAt(Iova(at)));
    }
    if (model_.Count() == kBudget && model_.ReclaimIdle() == 0) {
      return ExpectError(got, kOverBudget);
    }
    if (answer % 16 == 1) return ExpectError(got, Error::kPermission);
    Expect(got.ok() && made);
    model_.MakePage(page);
  }
  template <class R>
  void ExpectError(const R& got, Error error) {
    Expect(!got.ok() && got.error() == error);
  }

  void OnMapping(const Step& s, std::size_t index) {
    const Live l = model_.live[index];
    if (l.state == SlotState::kQuarantined) return;
    const std::uint64_t offset = s.b % l.b.body.size();
    const Range part =
        RangeOf((l.b.body.first() + offset).value(), l.b.body.size() - offset);
    const PhysAddr at = l.b.buffer + offset;
    if (s.kind == Kind::kCopyIn) {
      Expect(subject_.CopyIn(part, Host(at), &copied_).ok());
      model_.CopyIn(part, at.value());
    }
    if (s.kind == Kind::kCopyOut) {
      Expect(subject_.CopyOut(part, Host(at), &copied_).ok());
      model_.CopyOut(part, at.value());
    }
    if (s.kind == Kind::kUnmap) End(index, s);
  }

  void End(std::size_t index, const Step& s) {
    const Live l = model_.live[index];
    auto& slot = SlotOf(l);
    typename Subject::Shown found;
    const SlotWord word(slot.word.load());
    Expect(subject_.Read(l.b.slots.first(), slot, word, found));
    over_.push_back(found);
    if (over_.size() > 16) over_.erase(over_.begin());
    if (l.state == SlotState::kFilling) {
      subject_.Retract(slot, l.b.slots);
      model_.Scrub(l.b.slots);
    } else {
      slot.word.exchange(word.To(SlotState::kEnding).bits());
      subject_.SettleAll(l.b.slots);
      if (s.c % 2 == 0) {
        Expect(subject_.CopyOut(l.b.body, Host(l.b.buffer), &copied_).ok());
        model_.CopyOut(l.b.body, l.b.buffer.value());
      }
      if (slot_ != kPage) {
        subject_.Scrub(l.b.slots);
        model_.Scrub(l.b.slots);
      }
    }
    const bool keep = s.c % 32 == 5;
    subject_.Vacate(slot, keep ? SlotState::kQuarantined : SlotState::kFree);
    model_.live[index].state = SlotState::kQuarantined;
    if (keep) return;
    model_.live.erase(model_.live.begin() + static_cast<std::ptrdiff_t>(index));
  }

  void DeviceWrite(const Step& s) {
    const std::uint64_t at = s.a % kSize;
    std::byte* const data = subject_.PageAt(Iova(at));
    if (data == nullptr || !model_.there[at / kPage]) return;  // Agree judges
    const std::uint64_t size = 1 + s.b % (kPage - at % kPage);
    const auto value = static_cast<std::byte>(s.c % 256);
    std::memset(data + at % kPage, static_cast<int>(s.c % 256), size);
    for (std::uint64_t i = at; i < at + size; ++i) {
      model_.space[i] = value;
      model_.by_device[i] = value;
      model_.written[i] = true;
    }
  }

  void Reclaim(const Step& s) {
    const std::uint64_t first = s.a % kPages;
    const std::uint64_t size = 1 + s.b % 4;  // at the end: beyond the space
    const Range whole = RangeOf(first * kPage, size * kPage);
    if (s.c % 8 == 0) {
      return ExpectError(
          subject_.Reclaim(RangeOf(first * kPage, size * kPage - 1)),
          Error::kInvalidArgument);
    }
    const auto r = subject_.Reclaim(whole);
    if (first + size > kPages) return ExpectError(r, Error::kOutOfRange);
    if (model_.In(whole) != nullptr) return ExpectError(r, Error::kBusy);
    std::uint64_t count = 0;
    for (std::uint64_t p = first; p < first + size; ++p) {
      count += model_.there[p] ? 1 : 0;
      model_.there[p] = false;
    }
    Expect(r.ok() && *r == count);
  }

  bool Agree() {
    return PagesAgree() && RecordsAgree() && memory_ == model_.memory &&
           copied_ == model_.copied &&
           source_.in_use() == model_.Count() * kPage &&
           memory_access_.open_windows() == 0 && subject_.CheckInvariants();
  }
  bool PagesAgree() {
    std::uint64_t pages = 0;
    subject_.ForEachPage([&](Range range, std::byte* data) {
      pages += subject_.PageAt(range.last()) == data ? 1 : 0;
    });
    if (pages != model_.Count()) return false;
    for (std::uint64_t at = 0; at < kSize; ++at) {
      const std::byte* const data = subject_.PageAt(Iova(at));
      if ((data != nullptr) != model_.there[at / kPage]) return false;
      if (data == nullptr) continue;
      const std::byte got = data[at % kPage];
      if (got == model_.space[at]) continue;
      if (!model_.written[at] || got != model_.by_device[at]) return false;
      model_.space[at] = got;  // the device's own, which was left there
    }
    return true;
  }
  // Each slot leads to its mapping, and no mapping that is over can be read.
  bool RecordsAgree() {
    for (std::uint64_t at = 0; at < kSize; at += slot_) {
      const Live* const l = model_.In(RangeOf(at, 1));
      const auto found = subject_.Look(Iova(at + slot_ - 1));
      if (found.ok() != (l != nullptr)) return false;
      if (l != nullptr && !Same(*found, *l)) return false;
    }
    std::size_t all = 0;
    subject_.ForEachMapping([&](const auto& m) {
      const Live* const l = model_.In(m.b.body);
      all += l != nullptr && Same(m, *l) ? 1 : 0;
    });
    std::size_t shown = 0;
    for (std::uint64_t p = 0; p < kPages; ++p) {
      subject_.ForEachShown(Iova(p * kPage), [&](const auto& m) {
        const Live* const l = model_.In(m.b.body);
        const bool first = m.b.slots.first().value() / kPage == p;
        shown += first && l != nullptr && Same(m, *l) ? 1 : 0;
      });
    }
    const auto quarantined = std::count_if(
        model_.live.begin(), model_.live.end(),
        [](const Live& l) { return l.state == SlotState::kQuarantined; });
    const bool none_over = std::none_of(
        over_.begin(), over_.end(), [&](const typename Subject::Shown& m) {
          typename Subject::Shown again;
          return subject_.Read(m.b.slots.first(), *m.slot, m.word, again);
        });
    return all == model_.live.size() && none_over &&
           shown + static_cast<std::size_t>(quarantined) == all;
  }
  bool Same(const typename Subject::Shown& m, const Live& l) {
    return m.slot == &SlotOf(l) && m.word.tag() == l.tag &&
           m.word.state() == l.state && m.b.slots == l.b.slots &&
           m.b.body == l.b.body && m.b.buffer == Host(l.b.buffer) &&
           m.b.fill == l.b.fill && m.b.direction == l.b.direction &&
           m.b.overwritten == l.b.overwritten;
  }

  const std::uint64_t slot_;
  HeapPages source_;
  PagewiseMemory<> memory_access_{*PageSize::FromBytes(32)};
  Subject subject_;
  Bytes memory_;
  Model model_;
  std::vector<typename Subject::Shown> over_;  // the last that ended
  std::uint64_t copied_ = 0;
  bool good_ = true;
};

using Real = Bounce<HeapPages, PagewiseMemory<>>;
constexpr std::array<std::uint64_t, 3> kSlotSizes = {64, 128, kPage};

RC_GTEST_PROP(BounceProperty, AgreesWithTheOracleAfterEachStep, ()) {
  for (const std::uint64_t slot : kSlotSizes) {
    const Program program = *AnyProgram();
    const auto difference = Rig<Real>(slot).FirstDifference(program);
    if (difference.has_value()) {
      RC_FAIL("slots of " + std::to_string(slot) + ": differs after step " +
              std::to_string(*difference));
    }
  }
}

// --- Negative controls ---

struct ForgetsScrub : Real {
  using Real::Real;
  void Scrub(Range) {}
};

// A Show behind which some bytes are what they were before it.
struct PartlyShows : Real {
  using Real::Real;
  template <class Keeps>
  Result<void> ShowBut(Slot& first, const BounceBuffer& b, std::uint64_t* bytes,
                       Keeps keeps) {
    const auto each = [&](auto f) {
      for (Iova at = b.slots.first();; at = at + 1) {
        std::byte* const page = PageAt(at);
        if (page != nullptr && keeps(at)) f(page[at.value() % kPage]);
        if (at == b.slots.last()) return;
      }
    };
    Bytes before;
    each([&](std::byte& byte) { before.push_back(byte); });
    const Result<void> r = Real::Show(first, b, bytes);
    auto next = before.begin();
    each([&](std::byte& byte) { byte = *next++; });
    return r;
  }
};
struct ForgetsPadding : PartlyShows {
  using PartlyShows::PartlyShows;
  Result<void> Show(Slot& first, const BounceBuffer& b, std::uint64_t* bytes) {
    return ShowBut(first, b, bytes,
                   [&](Iova at) { return !b.body.Contains(at); });
  }
};
struct ForgetsTheLastByte : PartlyShows {
  using PartlyShows::PartlyShows;
  Result<void> Show(Slot& first, const BounceBuffer& b, std::uint64_t* bytes) {
    return ShowBut(first, b, bytes,
                   [&](Iova at) { return at == b.body.last(); });
  }
};
struct TakesTheFirstSlotAlone : Real {
  using Real::Real;
  Result<void> Show(Slot& first, const BounceBuffer& b, std::uint64_t* bytes) {
    BounceBuffer one = b;
    one.slots = Range::Byte(b.slots.first()).RoundOutToPages(slot());
    one.body = *b.body.Intersect(one.slots);
    return Real::Show(first, one, bytes);
  }
};
struct CopiesAByteTooMany : Real {
  using Real::Real;
  Result<void> CopyOut(Range part, PhysAddr buffer, std::uint64_t* bytes) {
    const bool last = part.last().value() == kSize - 1;
    const Range more =
        RangeOf(part.first().value(), part.size() + (last ? 0 : 1));
    std::uint64_t ignored = 0;
    const Result<void> r = Real::CopyOut(more, buffer, &ignored);
    for (std::uint64_t at = part.first().value(); at <= part.last().value();
         ++at) {
      *bytes += PageAt(Iova(at)) == nullptr ? 0 : 1;
    }
    return r;
  }
};
struct MakesPagesUnfilled : Real {
  using Real::Real;
  template <class Allowed>
  Result<std::byte*> Touch(Iova at, Allowed&& allowed, bool* made,
                           std::uint64_t* bytes) {
    const auto page = Real::Touch(at, allowed, made, bytes);
    if (page.ok() && *made) std::memset(*page, 0, kPage);
    return page;
  }
};
// As VDUSE did until 2026.
struct MakesPagesUnzeroed : Real {
  using Real::Real;
  template <class Allowed>
  Result<std::byte*> Touch(Iova at, Allowed&& allowed, bool* made,
                           std::uint64_t* bytes) {
    const auto page = Real::Touch(at, allowed, made, bytes);
    if (!page.ok() || !*made) return page;
    std::replace(*page, *page + kPage, std::byte{0}, std::byte{0x77});
    return page;
  }
};
struct AsksOnce : Real {
  using Real::Real;
  template <class Allowed>
  Result<std::byte*> Touch(Iova at, Allowed&& allowed, bool* made,
                           std::uint64_t* bytes) {
    const Result<void> answer = allowed();
    return Real::Touch(
        at, [&] { return answer; }, made, bytes);
  }
};
struct KeepsItsTag : Real {
  using Real::Real;
  void Vacate(Slot& first, SlotState to) {
    const SlotWord now(first.word.load());
    Real::Vacate(first, to);
    if (to == SlotState::kFree) {
      first.word.store(SlotWord(now.tag() - 1, to).bits());
    }
  }
};

// The same programs each time: how many of 100 show a difference.
template <class Subject>
int Found() {
  int found = 0;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    const Program program = AnyProgram()(rc::Random(seed), 60).value();
    const std::uint64_t slot = kSlotSizes[seed % kSlotSizes.size()];
    if (Rig<Subject>(slot).FirstDifference(program).has_value()) ++found;
  }
  return found;
}

TEST(BouncePropertyControl, ProgramsFindWhatIsForgotten) {
  EXPECT_EQ(Found<Real>(), 0);
  EXPECT_GT(Found<ForgetsScrub>(), 10);
  EXPECT_GT(Found<ForgetsPadding>(), 10);
  EXPECT_GT(Found<ForgetsTheLastByte>(), 10);
  EXPECT_GT(Found<TakesTheFirstSlotAlone>(), 10);
  EXPECT_GT(Found<CopiesAByteTooMany>(), 10);
  EXPECT_GT(Found<MakesPagesUnfilled>(), 10);
  EXPECT_GT(Found<MakesPagesUnzeroed>(), 10);
  EXPECT_GT(Found<AsksOnce>(), 10);
  EXPECT_GT(Found<KeepsItsTag>(), 10);
}

}  // namespace
}  // namespace dmamap
