// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// One state model for every PageSource: random programs of allocations, writes,
// frees, trims and budgets. Blocks that are out are aligned, disjoint, zero at
// first and nobody else's afterwards; the budget is exact; everything comes
// back. The negative controls are sources that each break one of these.

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "bounce/huge_pages.h"
#include "bounce/memfd_pages.h"
#include "bounce/page_calls_for_test.h"
#include "bounce/page_source.h"
#include "bounce/user_pages.h"
#include "dma/address.h"

namespace dmamap {
namespace {

using testing_parts::AllAre;
using testing_parts::AllZero;
using testing_parts::Scribble;

constexpr std::uint64_t kPiece = std::uint64_t{2} << 20;

struct Step {
  enum class Kind { kAllocate, kFree, kBadFree, kTrim, kBudget };
  Kind kind = Kind::kAllocate;
  std::uint64_t a = 0;
  std::uint64_t b = 0;
};
using Program = std::vector<Step>;

std::ostream& operator<<(std::ostream& os, const Step& s) {
  constexpr std::array kNames = {"Allocate", "Free", "BadFree", "Trim",
                                 "Budget"};
  return os << kNames[static_cast<std::size_t>(s.kind)] << "(" << s.a << ", "
            << s.b << ")";
}

rc::Gen<Program> AnyProgram() {
  const auto kind =
      rc::gen::weightedElement<Step::Kind>({{8, Step::Kind::kAllocate},
                                            {6, Step::Kind::kFree},
                                            {1, Step::Kind::kBadFree},
                                            {1, Step::Kind::kTrim},
                                            {1, Step::Kind::kBudget}});
  const auto number = rc::gen::inRange<std::uint64_t>(0, 1 << 20);
  return rc::gen::container<Program>(rc::gen::build<Step>(
      rc::gen::set(&Step::kind, kind), rc::gen::set(&Step::a, number),
      rc::gen::set(&Step::b, number)));
}

// --- The sources, with what the model must know of each ---

struct HeapWorld {
  static constexpr std::uint64_t kUnit = 1;  // counts bytes
  static constexpr bool kChecksFrees = false;
  HeapPages source;
  void Trim() {}
};

struct HugeWorld {
  static constexpr std::uint64_t kUnit = 4096;
  static constexpr bool kChecksFrees = true;
  HugeWorld() {
    HugePagesOptions options;
    options.capacity = 2 * kPiece;
    options.keep = kPiece / 2;
    RC_ASSERT(source.Init(options).ok());
  }
  HugePages source;
  void Trim() { (void)source.Trim(); }
};

template <std::uint64_t kKeep>
struct MemfdWorld {
  static constexpr std::uint64_t kUnit = 4096;
  static constexpr bool kChecksFrees = true;
  MemfdWorld() {
    MemfdPagesOptions options;
    options.capacity = 2 * kPiece;
    options.keep = kKeep;
    RC_ASSERT(source.Init(options).ok());
  }
  MemfdPages source;
  void Trim() { (void)source.Trim(); }
};

struct UserWorld {
  static constexpr std::uint64_t kUnit = 4096;
  static constexpr bool kChecksFrees = true;
  static constexpr std::align_val_t kAlign{4096};
  static constexpr std::uint64_t kSize = 800 * 4096;
  UserWorld() : memory(static_cast<std::byte*>(::operator new(kSize, kAlign))) {
    Scribble(memory, kSize);
    // Two that touch, in the wrong order, and one apart.
    const std::array regions = {UserRegion{memory + 40 * kUnit, 600 * kUnit},
                                UserRegion{memory, 40 * kUnit},
                                UserRegion{memory + 700 * kUnit, 100 * kUnit}};
    RC_ASSERT(source.Register({.regions = regions, .pages = 740}).ok());
  }
  ~UserWorld() {
    // The page between is not ours.
    if (!AllAre(memory + 640 * kUnit, 60 * kUnit, std::byte{0x5a})) {
      ADD_FAILURE() << "memory that was not registered was written to";
    }
    ::operator delete(memory, kAlign);
  }
  std::byte* memory;
  UserPages source;
  void Trim() {}
};

// --- The model ---

struct Block {
  std::byte* data;
  PageSize page;
  std::uint64_t pages;
  std::byte mark;
  std::uint64_t bytes() const { return pages * page.bytes(); }
};

template <class World, class Source>
class Player {
 public:
  Player(World& world, Source& source) : world_(world), source_(source) {}

  // What is wrong, or "".
  std::string Play(const Program& program) {
    std::string wrong;
    for (std::size_t i = 0; i < program.size() && wrong.empty(); ++i) {
      wrong = Do(program[i]);
      if (wrong.empty()) wrong = Check();
    }
    while (!live_.empty()) {
      if (wrong.empty()) wrong = Intact(live_.back());
      Free(live_.size() - 1);
    }
    if (wrong.empty()) wrong = Check();
    if (wrong.empty() && world_.source.in_use() != 0) wrong = "bytes left";
    return wrong;
  }

 private:
  std::string Do(const Step& s) {
    switch (s.kind) {
      case Step::Kind::kAllocate:
        return Allocate(s.a, s.b);
      case Step::Kind::kFree: {
        if (live_.empty()) return "";
        const std::string wrong = Intact(live_[s.a % live_.size()]);
        Free(s.a % live_.size());
        return wrong;
      }
      case Step::Kind::kBadFree:
        return BadFree(s.a, s.b);
      case Step::Kind::kTrim:
        world_.Trim();
        return "";
      default:
        budget_ = s.a % 2 == 0 ? PageBudget::kNoBudget : s.b * 4;
        world_.source.set_budget(budget_);
        return "";
    }
  }

  static std::uint64_t Rounded(std::uint64_t bytes) {
    return (bytes + World::kUnit - 1) / World::kUnit * World::kUnit;
  }

  std::string Allocate(std::uint64_t a, std::uint64_t b) {
    constexpr std::array<unsigned, 5> kShifts = {6, 12, 13, 16, 21};
    const PageSize page = *PageSize::FromShift(kShifts[a % kShifts.size()]);
    const std::uint64_t most = page.shift() > 16 ? 1 : 20;
    const std::uint64_t pages = 1 + b % most;
    const std::uint64_t bytes = pages * page.bytes();
    const std::uint64_t in_use = world_.source.in_use();
    const bool fits = in_use <= budget_ && Rounded(bytes) <= budget_ - in_use;
    const Result<std::byte*> got = source_.Allocate(page, pages);
    if (!got.ok()) {
      if (got.error() == kOverBudget) return fits ? "refused too early" : "";
      const bool pool = got.error() == Error::kPoolEmpty;
      return pool && World::kUnit > 1 ? "" : "an error of another kind";
    }
    if (!fits) return "over budget";
    if (!page.IsAligned(PhysAddrOf(*got).value())) return "not aligned";
    for (const Block& other : live_) {
      if (*got < other.data + other.bytes() && other.data < *got + bytes) {
        return "overlaps";
      }
    }
    if (!AllZero(*got, bytes)) return "not zero";
    const auto mark = static_cast<std::byte>(1 + next_++ % 255);
    std::memset(*got, static_cast<int>(mark), static_cast<std::size_t>(bytes));
    live_.push_back({*got, page, pages, mark});
    return "";
  }

  void Free(std::size_t i) {
    const Block block = live_[i];
    live_.erase(live_.begin() + static_cast<std::ptrdiff_t>(i));
    source_.Free(block.data, block.page, block.pages);
  }

  // Twice, in part, too much, or what never was out.
  std::string BadFree(std::uint64_t a, std::uint64_t b) {
    if (!World::kChecksFrees || live_.empty()) return "";
    const Block block = live_[a % live_.size()];
    const std::uint64_t before = world_.source.stats().bad_frees;
    std::byte local[64];
    if (b % 3 == 0) {
      source_.Free(block.data + 1, block.page, block.pages);
    } else if (b % 3 == 1) {
      const PageSize unit;  // 600 more of them: another size for any block
      source_.Free(block.data, unit, unit.PagesFor(block.bytes()) + 600);
    } else {
      source_.Free(local, block.page, block.pages);
    }
    return world_.source.stats().bad_frees == before + 1 ? "" : "bad free";
  }

  static std::string Intact(const Block& b) {
    return AllAre(b.data, b.bytes(), b.mark) ? "" : "a block changed";
  }

  std::string Check() {
    std::uint64_t bytes = 0;
    std::uint64_t pages = 0;
    for (const Block& b : live_) {
      bytes += Rounded(b.bytes());
      pages += b.pages;
    }
    high_ = std::max(high_, bytes);
    const PageSourceStats stats = world_.source.stats();
    if (stats.in_use != bytes) return "bytes out";
    if (stats.pages_out != pages) return "pages out";
    if (stats.high_water != high_) return "high water";
    if (stats.budget != budget_) return "budget";
    return world_.source.CheckInvariants() ? "" : "invariants";
  }

  World& world_;
  Source& source_;
  std::vector<Block> live_;
  std::uint64_t budget_ = PageBudget::kNoBudget;
  std::uint64_t high_ = 0;
  std::uint64_t next_ = 0;
};

template <class World>
bool Holds() {
  return rc::check([] {
    const Program program = *AnyProgram();
    auto world = std::make_unique<World>();
    const std::string wrong = Player(*world, world->source).Play(program);
    if (!wrong.empty()) RC_FAIL(wrong);
  });
}

TEST(PagesModel, Heap) { EXPECT_TRUE(Holds<HeapWorld>()); }
TEST(PagesModel, Huge) { EXPECT_TRUE(Holds<HugeWorld>()); }
TEST(PagesModel, Memfd) { EXPECT_TRUE(Holds<MemfdWorld<0>>()); }
TEST(PagesModel, MemfdThatKeeps) {
  EXPECT_TRUE(Holds<MemfdWorld<64 * 4096>>());
}
TEST(PagesModel, User) { EXPECT_TRUE(Holds<UserWorld>()); }

// --- Negative controls: the model finds what is wrong with these ---

// What a control does wrong.
enum class Flaw { kDirty, kTwice, kCrooked, kWritesOn, kGreedy };

class FlawedSource {
 public:
  FlawedSource(HeapPages& inner, Flaw flaw) : inner_(inner), flaw_(flaw) {}
  // The model frees only what it accepted.
  ~FlawedSource() {
    for (const Block& b : out_) inner_.Free(b.data, b.page, b.pages);
  }

  Result<std::byte*> Allocate(PageSize page, std::uint64_t pages) {
    if (!out_.empty()) {
      const Block& last = out_.back();
      if (flaw_ == Flaw::kTwice) {
        std::memset(last.data, 0, static_cast<std::size_t>(last.bytes()));
        return last.data;
      }
      if (flaw_ == Flaw::kWritesOn) last.data[0] = std::byte{0};
    }
    if (flaw_ == Flaw::kGreedy) inner_.set_budget(PageBudget::kNoBudget);
    const auto got = inner_.Allocate(page, pages);
    if (!got.ok()) return got;
    out_.push_back({*got, page, pages, {}});
    if (flaw_ == Flaw::kDirty) *(*got + out_.back().bytes() - 1) = std::byte{1};
    if (flaw_ == Flaw::kCrooked) return *got + 1;
    return got;
  }
  void Free(std::byte* memory, PageSize page, std::uint64_t pages) {
    std::erase_if(out_, [&](const Block& b) { return b.data == memory; });
    inner_.Free(memory, page, pages);
  }

 private:
  HeapPages& inner_;
  Flaw flaw_;
  std::vector<Block> out_;
};

TEST(PagesModel, FindsWhatIsWrong) {
  const Step one_page{Step::Kind::kAllocate, 1, 0};
  const Step another{Step::Kind::kAllocate, 2, 0};
  const Step no_budget{Step::Kind::kBudget, 1, 0};
  const std::array<std::pair<Flaw, Program>, 5> cases = {{
      {Flaw::kDirty, {one_page}},
      {Flaw::kTwice, {one_page, one_page}},
      {Flaw::kCrooked, {one_page}},
      {Flaw::kWritesOn, {one_page, another}},
      {Flaw::kGreedy, {no_budget, one_page}},
  }};
  constexpr std::array<const char*, 5> kFound = {
      "not zero", "overlaps", "not aligned", "a block changed", "over budget"};
  for (std::size_t i = 0; i < cases.size(); ++i) {
    HeapWorld world;
    FlawedSource source(world.source, cases[i].first);
    EXPECT_EQ(Player(world, source).Play(cases[i].second), kFound[i]);
  }
}

}  // namespace
}  // namespace dmamap
