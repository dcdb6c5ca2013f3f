// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "bounce/bounce.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "bounce/memory_access.h"
#include "bounce/page_source.h"
#include "bounce/slot.h"
#include "dma/mapper.h"

namespace dmamap {
namespace {

using Bytes = std::vector<std::byte>;
using TestBounce = Bounce<HeapPages, PagewiseMemory<>>;
using Slot = TestBounce::Slot;

constexpr auto kSkip = MapAttributes::kSkipSync;
constexpr auto kOverwrites = MapAttributes::kDeviceOverwritesAll;

TEST(BounceRules, FillAndDrainByDirection) {
  for (Direction d : {Direction::kBidirectional, Direction::kToDevice,
                      Direction::kFromDevice}) {
    EXPECT_EQ(FillFor(d, MapAttributes::kNone), BounceFill::kOriginal);
    EXPECT_EQ(FillFor(d, kSkip), BounceFill::kZero);
    EXPECT_EQ(DrainsFor(d, MapAttributes::kNone), d != Direction::kToDevice);
    EXPECT_FALSE(DrainsFor(d, kSkip));
  }
  EXPECT_EQ(FillFor(Direction::kFromDevice, kOverwrites), BounceFill::kZero);
  EXPECT_EQ(FillFor(Direction::kBidirectional, kOverwrites),
            BounceFill::kOriginal);
}

TEST(BounceRules, WordAndShapeKeepTheirParts) {
  const SlotWord live(0xfedcba98u, SlotState::kLive);
  const SlotWord pinned(live.bits() + 3 * SlotWord::kPin);
  EXPECT_EQ(pinned.tag(), 0xfedcba98u);
  EXPECT_EQ(pinned.pins(), 3u);
  EXPECT_EQ(pinned.state(), SlotState::kLive);
  EXPECT_TRUE(pinned.SameAs(live));
  EXPECT_FALSE(pinned.SameAs(live.To(SlotState::kClaimed)));
  EXPECT_EQ(pinned.To(SlotState::kEnding).pins(), 0u);
  EXPECT_TRUE(SlotWord().is_free());
  for (Direction d : {Direction::kBidirectional, Direction::kToDevice,
                      Direction::kFromDevice}) {
    for (unsigned bits = 0; bits < 4; ++bits) {
      const auto fill =
          bits % 2 == 0 ? BounceFill::kZero : BounceFill::kOriginal;
      const SlotShape s(std::uint64_t{1} << 30, fill, d, bits / 2 != 0);
      EXPECT_EQ(s.head(), std::uint64_t{1} << 30);
      EXPECT_EQ(s.fill(), fill);
      EXPECT_EQ(s.direction(), d);
      EXPECT_EQ(s.overwritten(), bits / 2 != 0);
    }
  }
}

// 64 pages of 256 bytes in slots of 64.
struct BounceTest : testing::Test {
  BounceTest() {
    const auto r = bounce.Init({.size = 64 * 256,
                                .page = *PageSize::FromBytes(256),
                                .slot = *PageSize::FromBytes(64)});
    EXPECT_TRUE(r.ok());
  }
  static Range Bytes_(std::uint64_t first, std::uint64_t size) {
    return *Range::FromSize(Iova(first), size);
  }
  std::byte* Touch(std::uint64_t at) {
    EXPECT_TRUE(bounce.Prepare(Bytes_(at, 1)).ok());
    bool made = false;
    const auto page = bounce.Touch(
        Iova(at), [] { return Ok(); }, &made, &bytes);
    EXPECT_TRUE(page.ok());
    return page.ok() ? *page : nullptr;
  }
  Slot& Show(const BounceBuffer& b) {
    Slot& first = **bounce.Prepare(b.slots);
    EXPECT_TRUE(bounce.Show(first, b, &bytes).ok());
    return first;
  }
  void End(Slot& first, Range slots) {
    const SlotWord now(first.word.load());
    first.word.exchange(now.To(SlotState::kEnding).bits());
    bounce.SettleAll(slots);
    bounce.Scrub(slots);
    bounce.Vacate(first, SlotState::kFree);
  }
  HeapPages source;
  PagewiseMemory<> memory{*PageSize::FromBytes(64)};
  TestBounce bounce{source, memory};
  Bytes buffer = Bytes(1000, std::byte{0x11});
  std::uint64_t bytes = 0;
};

TEST_F(BounceTest, InitChecks) {
  TestBounce b(source, memory);
  const PageSize p = *PageSize::FromBytes(256);
  const PageSize small = *PageSize::FromBytes(64);
  EXPECT_EQ(b.Init({0, p, small}).error(), Error::kInvalidArgument);
  EXPECT_EQ(b.Init({300, p, small}).error(), Error::kInvalidArgument);
  EXPECT_EQ(b.Init({256, small, p}).error(), Error::kInvalidArgument);
  EXPECT_EQ(b.Init({256, p, *PageSize::FromBytes(1)}).error(),
            Error::kInvalidArgument);
  EXPECT_TRUE(b.Init({256, p, p}).ok());
  EXPECT_EQ(b.Init({256, p, p}).error(), Error::kBusy);
  EXPECT_FALSE(b.shares_pages());
  EXPECT_TRUE(bounce.shares_pages());
  EXPECT_EQ(bounce.Prepare(Bytes_(63 * 256, 512)).error(), Error::kOutOfRange);
}

// What an earlier mapping left in the slots goes, whether the new one covers it
// or not, and nothing beside the slots changes.
TEST_F(BounceTest, ShowOverwritesWhatWasCopiedToTheSlotsBefore) {
  Bytes old(1000, std::byte{0x22});
  const BounceBuffer before{Bytes_(256, 512), Bytes_(256, 512),
                            PhysAddrOf(old.data())};
  Slot& slot = Show(before);
  std::byte* const first = Touch(256);
  std::byte* const second = Touch(512);
  // Ends without a scrub, as mappings do that share no page.
  slot.word.exchange(SlotWord(slot.word.load()).To(SlotState::kEnding).bits());
  bounce.Vacate(slot, SlotState::kFree);
  bytes = 0;
  const BounceBuffer b{Bytes_(256 + 64, 384), Bytes_(256 + 70, 360),
                       PhysAddrOf(buffer.data())};
  Show(b);
  EXPECT_EQ(bytes, 360u);
  for (std::uint64_t i = 0; i < 512; ++i) {
    const std::byte got = i < 256 ? first[i] : second[i - 256];
    const Iova at(256 + i);
    const std::byte want = b.body.Contains(at)    ? std::byte{0x11}
                           : b.slots.Contains(at) ? std::byte{0}
                                                  : std::byte{0x22};
    ASSERT_EQ(got, want) << at.value();
  }
  bounce.Scrub(b.slots);
  EXPECT_EQ(first[63], std::byte{0x22});
  EXPECT_EQ(first[64], std::byte{0});
  EXPECT_EQ(second[191], std::byte{0});
  EXPECT_EQ(second[192], std::byte{0x22});
  EXPECT_TRUE(bounce.CheckInvariants());
}

TEST_F(BounceTest, ZeroFillShowsNothingOfTheBuffer) {
  std::byte* const page = Touch(256);
  Slot& old =
      Show({Bytes_(256, 256), Bytes_(256, 256), PhysAddrOf(buffer.data())});
  EXPECT_EQ(page[255], std::byte{0x11});
  bounce.Retract(old, Bytes_(256, 256));
  bounce.Vacate(old, SlotState::kFree);
  std::memset(page + 10, 0xAA, 20);  // the device, in what will be the body
  bytes = 0;
  Show({Bytes_(256, 256), Bytes_(260, 200), PhysAddrOf(buffer.data()),
        BounceFill::kZero});
  EXPECT_EQ(bytes, 0u);
  EXPECT_TRUE(std::all_of(page, page + 256,
                          [](std::byte x) { return x == std::byte{0}; }));
}

// The short way of a mapping that has a page alone shows the same.
TEST_F(BounceTest, ShowSlotDoesWhatShowDoes) {
  TestBounce alone(source, memory);
  ASSERT_TRUE(alone
                  .Init({.size = 1024,
                         .page = *PageSize::FromBytes(256),
                         .slot = *PageSize::FromBytes(256)})
                  .ok());
  bool made = false;
  ASSERT_TRUE(alone.Prepare(Bytes_(0, 1024)).ok());
  std::byte* const page = *alone.Touch(
      Iova(256), [] { return Ok(); }, &made, &bytes);
  Slot& slot = *alone.SlotAt(Iova(256));
  const auto show = [&](std::uint64_t size, std::uint64_t head,
                        BounceFill fill) {
    const SlotShape shape(head, fill, Direction::kFromDevice, true);
    bytes = 0;
    const SlotWord word = alone.WordAfter(alone.AwaitFree(slot).tag());
    EXPECT_TRUE(alone
                    .ShowSlot(slot, word, size, PhysAddrOf(buffer.data()),
                              shape, &bytes)
                    .ok());
    EXPECT_EQ(bytes, fill == BounceFill::kZero ? 0 : size);
    EXPECT_EQ(SlotWord(slot.word.load()).bits(), word.bits());
    EXPECT_EQ(word.state(), SlotState::kFilling);
    const std::uint32_t tag = alone.Admit(slot, word);
    const auto m = alone.Look(Iova(256 + 255));
    ASSERT_TRUE(m.ok());
    EXPECT_EQ(m->word.tag(), tag);
    EXPECT_TRUE(m->word.is_live());
    EXPECT_EQ(m->b.body, Bytes_(256 + head, size));
    EXPECT_EQ(m->b.slots, Bytes_(256, 256));
    EXPECT_EQ(m->b.direction, Direction::kFromDevice);
    EXPECT_TRUE(m->b.overwritten);
    for (std::uint64_t i = 0; i < 256; ++i) {
      const bool body = i >= head && i < head + size;
      const bool copied = body && fill == BounceFill::kOriginal;
      ASSERT_EQ(page[i], copied ? std::byte{0x11} : std::byte{0}) << i;
    }
    slot.word.exchange(m->word.To(SlotState::kEnding).bits());
    EXPECT_EQ(alone.SettleSlot(slot), page);
    alone.Vacate(slot, SlotState::kFree);
  };
  show(256, 0, BounceFill::kOriginal);
  show(100, 16, BounceFill::kOriginal);
  show(50, 100, BounceFill::kOriginal);
  show(200, 1, BounceFill::kZero);
  show(3, 253, BounceFill::kOriginal);
}

TEST_F(BounceTest, CopiesTouchOnlyThePartAndOnlyPagesThatAreThere) {
  const Range slots = Bytes_(256, 768);
  Show({slots, slots, PhysAddrOf(buffer.data())});
  std::memset(Touch(512), 0xAA, 256);  // the middle page of three
  bytes = 0;
  ASSERT_TRUE(
      bounce.CopyOut(Bytes_(300, 600), PhysAddrOf(buffer.data() + 100), &bytes)
          .ok());
  EXPECT_EQ(bytes, 256u);
  for (std::size_t i = 0; i < buffer.size(); ++i) {
    const std::uint64_t at = 300 + i - 100;  // I/O address of buffer[i]
    const bool written = i >= 100 && i < 700 && at >= 512 && at < 768;
    ASSERT_EQ(buffer[i], written ? std::byte{0xAA} : std::byte{0x11}) << i;
  }
  bytes = 0;
  ASSERT_TRUE(
      bounce.CopyIn(Bytes_(520, 4), PhysAddrOf(buffer.data()), &bytes).ok());
  EXPECT_EQ(bytes, 4u);
  std::byte* const page = bounce.PageAt(Iova(512));
  EXPECT_EQ(page[7], std::byte{0xAA});
  EXPECT_EQ(page[8], std::byte{0x11});
  EXPECT_EQ(page[11], std::byte{0x11});
  EXPECT_EQ(page[12], std::byte{0xAA});
}

TEST_F(BounceTest, AMappingIsFoundByEachOfItsSlots) {
  const BounceBuffer b{Bytes_(256 + 128, 320),    Bytes_(256 + 130, 300),
                       PhysAddrOf(buffer.data()), BounceFill::kZero,
                       Direction::kFromDevice,    true};
  Slot& slot = Show(b);
  for (const bool live : {false, true}) {
    for (std::uint64_t at = 0; at < 1024; ++at) {
      const auto m = bounce.Look(Iova(at));
      ASSERT_EQ(m.ok(), b.slots.Contains(Iova(at))) << at;
      if (!m.ok()) continue;
      ASSERT_EQ(m->slot, &slot);
      ASSERT_EQ(m->word.is_live(), live);
      ASSERT_EQ(m->b.slots, b.slots);
      ASSERT_EQ(m->b.body, b.body);
      ASSERT_EQ(m->b.buffer, b.buffer);
      ASSERT_EQ(m->b.fill, b.fill);
      ASSERT_EQ(m->b.direction, b.direction);
      ASSERT_EQ(m->b.overwritten, b.overwritten);
    }
    bounce.Admit(slot);
  }
  const auto found = bounce.Look(Iova(600));
  TestBounce::Shown again;
  EXPECT_TRUE(bounce.Read(b.slots.first(), slot, found->word, again));
  End(slot, b.slots);
  EXPECT_FALSE(bounce.Read(b.slots.first(), slot, found->word, again));
  EXPECT_EQ(bounce.Look(Iova(600)).error(), Error::kNotMapped);
  // Shorter, and in the middle of what was its own.
  Slot& other = Show({Bytes_(512, 64), Bytes_(512, 10), b.buffer});
  EXPECT_EQ(bounce.Look(Iova(512))->slot, &other);
  EXPECT_FALSE(bounce.Look(Iova(511)).ok());
  EXPECT_FALSE(bounce.Look(Iova(576)).ok());
}

TEST_F(BounceTest, TagsCountUpAndAreNeverZero) {
  TestBounce b(source, memory);
  const PageSize p = *PageSize::FromBytes(256);
  ASSERT_TRUE(b.Init({256, p, p, 0xfffffffeu}).ok());
  const BounceBuffer one{Bytes_(0, 256), Bytes_(0, 256),
                         PhysAddrOf(buffer.data())};
  std::vector<std::uint32_t> tags;
  for (int i = 0; i < 4; ++i) {
    Slot& slot = **b.Prepare(one.slots);
    ASSERT_TRUE(b.Show(slot, one, &bytes).ok());
    tags.push_back(b.Admit(slot));
    b.Retract(slot, one.slots);
    b.Vacate(slot, SlotState::kFree);
  }
  EXPECT_EQ(tags, (std::vector<std::uint32_t>{0xfffffffeu, 0xffffffffu,
                                              0xfffffffeu, 0xffffffffu}));
}

TEST_F(BounceTest, RetractLeavesNothing) {
  std::byte* const page = Touch(256);
  const BounceBuffer b{Bytes_(256, 128), Bytes_(260, 120),
                       PhysAddrOf(buffer.data())};
  Slot& slot = Show(b);
  EXPECT_EQ(page[4], std::byte{0x11});
  bounce.Retract(slot, b.slots);
  EXPECT_EQ(SlotWord(slot.word.load()).state(), SlotState::kEnding);
  EXPECT_TRUE(std::all_of(page, page + 256,
                          [](std::byte x) { return x == std::byte{0}; }));
  EXPECT_EQ(bounce.Reclaim(Bytes_(256, 256)).error(), Error::kBusy);
  bounce.Vacate(slot, SlotState::kFree);
  EXPECT_EQ(*bounce.Reclaim(Bytes_(256, 256)), 1u);
}

TEST_F(BounceTest, TouchAsksTwiceAndFailsAsItIsTold) {
  ASSERT_TRUE(bounce.Prepare(Bytes_(0, 1024)).ok());
  bool made = true;
  const auto refused = bounce.Touch(
      Iova(0), [] { return Result<void>(Error::kPermission); }, &made, &bytes);
  EXPECT_EQ(refused.error(), Error::kPermission);
  int asked = 0;
  const auto late = bounce.Touch(
      Iova(0),
      [&] { return ++asked == 1 ? Ok() : Result<void>(Error::kNotMapped); },
      &made, &bytes);
  EXPECT_EQ(late.error(), Error::kNotMapped);
  EXPECT_EQ(asked, 2);
  EXPECT_FALSE(made);
  EXPECT_EQ(source.in_use(), 0u);
  std::byte* const page = Touch(0);
  EXPECT_EQ(Touch(255), page);
  EXPECT_NE(Touch(256), page);
  EXPECT_EQ(source.in_use(), 512u);
}

// A buffer that cannot be reached: no page comes of it.
class NoMemory {
 public:
  MemoryWindow Open(PhysAddr, std::size_t) { return {}; }
  void Close(const MemoryWindow&) {}
};
TEST_F(BounceTest, TouchFailsWhenABufferCannotBeReached) {
  NoMemory none;
  Bounce<HeapPages, NoMemory> blind(source, none);
  const PageSize p = *PageSize::FromBytes(256);
  ASSERT_TRUE(blind.Init({256, p, p}).ok());
  auto& slot = **blind.Prepare(Bytes_(0, 256));
  const BounceBuffer b{Bytes_(0, 256), Bytes_(0, 256), PhysAddr(4096)};
  ASSERT_TRUE(blind.Show(slot, b, &bytes).ok()) << "no page to be filled";
  bool made = true;
  const auto page = blind.Touch(
      Iova(0), [] { return Ok(); }, &made, &bytes);
  EXPECT_EQ(page.error(), Error::kUnsupported);
  EXPECT_FALSE(made);
  EXPECT_EQ(source.in_use(), 0u);
}

TEST_F(BounceTest, TouchReclaimsWhenMemoryRunsOut) {
  source.set_budget(512);
  const BounceBuffer b{Bytes_(0, 64), Bytes_(0, 64), PhysAddrOf(buffer.data())};
  Show(b);
  std::byte* const used = Touch(0);
  Touch(256);  // idle
  Touch(512);
  EXPECT_EQ(bounce.PageAt(Iova(0)), used);
  EXPECT_EQ(bounce.PageAt(Iova(256)), nullptr);
  EXPECT_EQ(source.in_use(), 512u);
}

TEST_F(BounceTest, ReclaimChecksAndRefusesWhatIsUsed) {
  const Range slots = Bytes_(256 + 192, 128);  // two pages
  Slot& slot = Show({slots, slots, PhysAddrOf(buffer.data())});
  Touch(256);
  EXPECT_EQ(bounce.Reclaim(Bytes_(0, 1024)).error(), Error::kBusy);
  EXPECT_EQ(bounce.Reclaim(Bytes_(512, 256)).error(), Error::kBusy)
      << "a mapping without a page, known by its owner";
  EXPECT_EQ(*bounce.Reclaim(Bytes_(768, 256)), 0u);
  EXPECT_EQ(bounce.Reclaim(Bytes_(0, 100)).error(), Error::kInvalidArgument);
  EXPECT_EQ(bounce.Reclaim(Bytes_(0, 65 * 256)).error(), Error::kOutOfRange);
  EXPECT_EQ(bounce.ReclaimIdle(), 0u);
  End(slot, slots);
  EXPECT_EQ(*bounce.Reclaim(Bytes_(0, 1024)), 1u);
  EXPECT_EQ(source.in_use(), 0u);
  EXPECT_TRUE(bounce.CheckInvariants());
}

// A quarantined mapping keeps its pages, and is shown on none.
TEST_F(BounceTest, QuarantineIsForEver) {
  const BounceBuffer b{Bytes_(256, 64), Bytes_(256, 64),
                       PhysAddrOf(buffer.data())};
  Slot& slot = Show(b);
  slot.word.exchange(SlotWord(slot.word.load()).To(SlotState::kEnding).bits());
  bounce.Vacate(slot, SlotState::kQuarantined);
  EXPECT_EQ(Touch(256)[0], std::byte{0});
  EXPECT_EQ(bounce.ReclaimIdle(), 0u);
  EXPECT_EQ(bounce.Look(Iova(256))->word.state(), SlotState::kQuarantined);
}

// A page that comes after any set of mappings on it shows each one's bytes in
// its body and zero elsewhere.
RC_GTEST_FIXTURE_PROP(BounceTest, AFreshPageShowsEveryMappingAndNothingElse,
                      ()) {
  Bytes expected(256);
  std::vector<Bytes> buffers;
  for (std::uint64_t slot = 0; slot < 4; ++slot) {
    if (!*rc::gen::arbitrary<bool>()) continue;
    const auto head = *rc::gen::inRange<std::uint64_t>(0, 63);
    const auto size = *rc::gen::inRange<std::uint64_t>(1, 64 - head + 1);
    buffers.push_back(Bytes(size, static_cast<std::byte>(slot + 1)));
    const std::uint64_t at = 256 + slot * 64;
    Show({Bytes_(at, 64), Bytes_(at + head, size),
          PhysAddrOf(buffers.back().data())});
    std::fill_n(
        expected.begin() + static_cast<std::ptrdiff_t>(slot * 64 + head), size,
        static_cast<std::byte>(slot + 1));
  }
  const std::byte* const page = Touch(300);
  RC_ASSERT(Bytes(page, page + 256) == expected);
}

}  // namespace
}  // namespace dmamap
