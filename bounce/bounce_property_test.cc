// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// A state model of Bounce: random programs of claims, fills, copies, scrubs and
// reclaims run on it and on an oracle that holds every byte of the space in one
// array. After each step the pages that are there, their bytes, their claims,
// the host's memory, every answer and the invariants must agree. The negative
// controls are wrappers that each forget one thing; programs find them.

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
#include "bounce/page_source.h"

namespace dmamap {
namespace {

using Bytes = std::vector<std::byte>;

// A space of 8 pages of 4 slots; the source has memory for 5 pages.
constexpr std::uint64_t kSlot = 64;
constexpr std::uint64_t kPage = 256;
constexpr std::uint64_t kPages = 8;
constexpr std::uint64_t kSlots = kPages * kPage / kSlot;
constexpr std::uint64_t kBudget = 5;
constexpr std::uint64_t kMemory = 700;  // bytes of the host that buffers are in

Range RangeOf(std::uint64_t first, std::uint64_t size) {
  return *Range::FromSize(Iova(first), size);
}

// --- A program ---

enum class Kind {
  kMap,          // claim slots from `a`, and fill them from the buffer
  kUnmap,        // [copy out,] [scrub,] release the a-th mapping
  kTouch,        // have the page of byte `a` made, filled and published
  kCopyIn,       // a part of the a-th mapping
  kCopyOut,      //
  kScrub,        // the slots of the a-th mapping, which stays
  kDeviceWrite,  // into page `a`, where it likes
  kCpuWrite,     // into the host's memory
  kReclaim,      // pages from `a`
  kReclaimIdle,
};
constexpr std::array kNames = {
    "Map",   "Unmap",       "Touch",    "CopyIn",  "CopyOut",
    "Scrub", "DeviceWrite", "CpuWrite", "Reclaim", "ReclaimIdle"};

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
                                                    {1, Kind::kScrub},
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

// --- The oracle: one array, and counts ---

struct Model {
  struct Page {
    bool there = false;
    std::uint64_t claims = 0;
  };
  std::array<Page, kPages> pages;
  Bytes space = Bytes(kPages * kPage);  // of pages that are there
  Bytes memory = Bytes(kMemory);
  std::vector<BounceBuffer> live;  // `buffer` is an offset in `memory`
  std::uint64_t copied = 0;

  bool There(std::uint64_t at) const { return pages[at / kPage].there; }
  std::uint64_t Count() const {
    return static_cast<std::uint64_t>(std::count_if(
        pages.begin(), pages.end(), [](const Page& p) { return p.there; }));
  }
  bool Taken(Range slots) const {
    return std::any_of(live.begin(), live.end(), [&](const BounceBuffer& b) {
      return b.slots.Overlaps(slots);
    });
  }
  void Claim(Range slots, std::uint64_t change) {
    for (std::uint64_t p = slots.first().value() / kPage;
         p <= slots.last().value() / kPage; ++p) {
      pages[p].claims += change;
    }
  }
  // f(address) for each byte of `range` on a page that is there.
  template <class F>
  void Each(Range range, F f) const {
    for (std::uint64_t at = range.first().value(); at <= range.last().value();
         ++at) {
      if (There(at)) f(at);
    }
  }
  void Scrub(Range range) {
    Each(range, [&](std::uint64_t at) { space[at] = std::byte{0}; });
  }
  void CopyIn(Range part, std::uint64_t from) {
    Each(part, [&](std::uint64_t at) {
      space[at] = memory[from + (at - part.first().value())];
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
    if (b.fill == BounceFill::kZero || !body.ok()) return;
    CopyIn(*body, b.buffer.value() + (body->first() - b.body.first()));
  }
};

// --- Both, step by step ---

// Subject: a Bounce, or something that pretends to be one.
template <class Subject>
class Rig {
 public:
  Rig() : source_(kBudget * kPage), subject_(source_, memory_access_) {
    good_ = subject_
                .Init({.size = kPages * kPage,
                       .page = *PageSize::FromBytes(kPage),
                       .slot = *PageSize::FromBytes(kSlot)})
                .ok();
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

  void Run(const Step& s) {
    switch (s.kind) {
      case Kind::kMap:
        return Map(s);
      case Kind::kTouch:
        return Touch(s.a % (kPages * kPage));
      case Kind::kDeviceWrite:
        return DeviceWrite(s);
      case Kind::kCpuWrite:
        memory_[s.a % kMemory] = static_cast<std::byte>(s.b);
        model_.memory[s.a % kMemory] = static_cast<std::byte>(s.b);
        return;
      case Kind::kReclaim:
        return Reclaim(s);
      case Kind::kReclaimIdle:
        return ReclaimIdle();
      default:
        if (!model_.live.empty()) OnMapping(s, s.a % model_.live.size());
    }
  }

  void Map(const Step& s) {
    // One start in nine lies behind the space.
    const std::uint64_t first = s.a % (kSlots + kSlots / 8) * kSlot;
    const std::uint64_t size = (1 + s.b % 6) * kSlot;
    const std::uint64_t head = s.c % (size / 2);
    const std::uint64_t tail = s.c / 7 % (size / 2);
    BounceBuffer b;
    b.slots = RangeOf(first, size);
    b.body = RangeOf(first + head, size - head - tail);
    b.buffer = PhysAddr(s.c % (kMemory - b.body.size()));
    b.fill = s.c % 3 == 0 ? BounceFill::kZero : BounceFill::kOriginal;
    if (model_.Taken(b.slots)) return;  // an allocator would not
    const Result<void> claimed = subject_.Claim(b.slots);
    Expect(claimed.ok() == (first + size <= kPages * kPage));
    if (!claimed.ok()) return Expect(claimed.error() == Error::kOutOfRange);
    model_.Claim(b.slots, 1);
    Expect(subject_.Fill(Real(b), &copied_).ok());
    model_.Fill(b, b.slots);
    model_.live.push_back(b);
  }

  void Touch(std::uint64_t at) {
    if (model_.pages[at / kPage].claims == 0) return;  // Publish demands one
    const Result<std::byte*> fresh = subject_.NewPage();
    Expect(fresh.ok() == (model_.Count() < kBudget));
    if (!fresh.ok()) return Expect(fresh.error() == Error::kLimit);
    const Range range = RangeOf(at / kPage * kPage, kPage);
    std::uint64_t ignored = 0;
    const bool there = model_.There(at);
    for (const BounceBuffer& b : model_.live) {
      Expect(
          subject_.FillPage(*fresh, range, Real(b), there ? &ignored : &copied_)
              .ok());
    }
    std::byte* const winner = subject_.Publish(Iova(at), *fresh);
    Expect((winner == *fresh) == !there);
    if (winner != *fresh) return subject_.Discard(*fresh);
    model_.pages[at / kPage].there = true;
    model_.Scrub(range);
    for (const BounceBuffer& b : model_.live) model_.Fill(b, range);
  }

  void OnMapping(const Step& s, std::size_t index) {
    const BounceBuffer b = model_.live[index];
    const std::uint64_t offset = s.b % b.body.size();
    const Range part =
        RangeOf((b.body.first() + offset).value(), b.body.size() - offset);
    const PhysAddr at = b.buffer + offset;
    if (s.kind == Kind::kCopyIn) {
      Expect(subject_.CopyIn(part, Host(at), &copied_).ok());
      model_.CopyIn(part, at.value());
    }
    if (s.kind == Kind::kCopyOut || (s.kind == Kind::kUnmap && s.c % 2 == 0)) {
      Expect(subject_.CopyOut(part, Host(at), &copied_).ok());
      model_.CopyOut(part, at.value());
    }
    if (s.kind == Kind::kScrub || (s.kind == Kind::kUnmap && s.c % 3 == 0)) {
      subject_.Scrub(b.slots);
      model_.Scrub(b.slots);
    }
    if (s.kind == Kind::kUnmap) {
      subject_.Release(b.slots);
      model_.Claim(b.slots, ~std::uint64_t{0});  // one less
      model_.live.erase(model_.live.begin() +
                        static_cast<std::ptrdiff_t>(index));
    }
  }

  void DeviceWrite(const Step& s) {
    const std::uint64_t at = s.a % (kPages * kPage);
    std::byte* const data = subject_.PageAt(Iova(at));
    if (data == nullptr || !model_.There(at)) return;  // Agree judges
    const std::uint64_t size = 1 + s.b % (kPage - at % kPage);
    std::memset(data + at % kPage, static_cast<int>(s.c % 256), size);
    std::memset(&model_.space[at], static_cast<int>(s.c % 256), size);
  }

  void Reclaim(const Step& s) {
    const std::uint64_t first = s.a % kPages;
    const std::uint64_t size = 1 + s.b % 4;  // at the end: beyond the space
    const Range whole = RangeOf(first * kPage, size * kPage);
    if (s.c % 8 == 0) {
      const auto r = subject_.Reclaim(RangeOf(first * kPage, size * kPage - 1));
      return Expect(!r.ok() && r.error() == Error::kInvalidArgument);
    }
    const auto r = subject_.Reclaim(whole);
    if (first + size > kPages) {
      return Expect(!r.ok() && r.error() == Error::kOutOfRange);
    }
    std::uint64_t there = 0;
    std::uint64_t claims = 0;
    for (std::uint64_t p = first; p < first + size; ++p) {
      there += model_.pages[p].there ? 1 : 0;
      claims += model_.pages[p].claims;
    }
    if (claims != 0) return Expect(!r.ok() && r.error() == Error::kBusy);
    Expect(r.ok() && *r == there);
    for (std::uint64_t p = first; p < first + size; ++p) {
      model_.pages[p].there = false;
    }
  }

  void ReclaimIdle() {
    std::uint64_t idle = 0;
    for (Model::Page& p : model_.pages) {
      if (!p.there || p.claims != 0) continue;
      p.there = false;
      ++idle;
    }
    Expect(subject_.ReclaimIdle() == idle);
  }

  bool Agree() {
    std::array<std::uint64_t, kPages> claims{};
    bool same = true;
    subject_.ForEach([&](Range range, std::byte* data, std::uint64_t n) {
      const std::uint64_t page = range.first().value() / kPage;
      claims[page] = n;
      same = same && subject_.PageAt(range.last()) == data;
    });
    for (std::uint64_t p = 0; p < kPages; ++p) {
      const std::byte* const data = subject_.PageAt(Iova(p * kPage));
      same = same && claims[p] == model_.pages[p].claims &&
             (data != nullptr) == model_.pages[p].there;
      if (!same) return false;
      if (data == nullptr) continue;
      same = std::memcmp(data, &model_.space[p * kPage], kPage) == 0;
    }
    return same && memory_ == model_.memory && copied_ == model_.copied &&
           source_.in_use() == model_.Count() * kPage &&
           memory_access_.open_windows() == 0 && subject_.CheckInvariants();
  }

  HeapPages source_;
  PagewiseMemory<> memory_access_{*PageSize::FromBytes(32)};
  Subject subject_;
  Bytes memory_;
  Model model_;
  std::uint64_t copied_ = 0;
  bool good_ = true;
};

using Real = Bounce<HeapPages, PagewiseMemory<>>;

RC_GTEST_PROP(BounceProperty, AgreesWithTheOracleAfterEachStep, ()) {
  for (int i = 0; i < 4; ++i) {
    const Program program = *AnyProgram();
    const auto difference = Rig<Real>().FirstDifference(program);
    if (difference.has_value()) {
      RC_FAIL("differs after step " + std::to_string(*difference));
    }
  }
}

// --- Negative controls ---

struct ForgetsScrub : Real {
  using Real::Real;
  void Scrub(Range) {}
};
struct ForgetsPadding : Real {
  using Real::Real;
  Result<void> Fill(const BounceBuffer& b, std::uint64_t* bytes) {
    return b.fill == BounceFill::kZero ? Real::Fill(b, bytes)
                                       : CopyIn(b.body, b.buffer, bytes);
  }
};
struct ClaimsTheFirstPageAlone : Real {
  using Real::Real;
  static Range First(Range slots) { return RangeOf(slots.first().value(), 1); }
  Result<void> Claim(Range slots) {
    // A bad range is still refused.
    if (slots.last().value() >= kPages * kPage) return Real::Claim(slots);
    return Real::Claim(First(slots));
  }
  void Release(Range slots) { Real::Release(First(slots)); }
};
struct CopiesAByteTooMany : Real {
  using Real::Real;
  Result<void> CopyOut(Range part, PhysAddr buffer, std::uint64_t* bytes) {
    const bool last = part.last().value() == kPages * kPage - 1;
    const Range more =
        RangeOf(part.first().value(), part.size() + (last ? 0 : 1));
    std::uint64_t ignored = 0;
    const Result<void> r = Real::CopyOut(more, buffer, &ignored);
    CountPagesThere(part, bytes);
    return r;
  }
  void CountPagesThere(Range part, std::uint64_t* bytes) {
    for (std::uint64_t at = part.first().value(); at <= part.last().value();
         ++at) {
      *bytes += PageAt(Iova(at)) == nullptr ? 0 : 1;
    }
  }
};
struct PublishesUnfilled : Real {
  using Real::Real;
  Result<void> FillPage(std::byte* data, Range page, const BounceBuffer& b,
                        std::uint64_t* bytes) {
    Bytes elsewhere(kPage);
    (void)data;
    return Real::FillPage(elsewhere.data(), page, b, bytes);
  }
};

// The same programs each time: how many of 100 show a difference.
template <class Subject>
int Found() {
  int found = 0;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    const Program program = AnyProgram()(rc::Random(seed), 60).value();
    if (Rig<Subject>().FirstDifference(program).has_value()) ++found;
  }
  return found;
}

TEST(BouncePropertyControl, ProgramsFindWhatIsForgotten) {
  EXPECT_EQ(Found<Real>(), 0);
  EXPECT_GT(Found<ForgetsScrub>(), 10);
  EXPECT_GT(Found<ForgetsPadding>(), 10);
  EXPECT_GT(Found<ClaimsTheFirstPageAlone>(), 10);
  EXPECT_GT(Found<CopiesAByteTooMany>(), 10);
  EXPECT_GT(Found<PublishesUnfilled>(), 10);
}

}  // namespace
}  // namespace dmamap
