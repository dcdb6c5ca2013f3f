// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The tables against a flat map of pages, behind a unit that remembers all it
// may (testing/sim_vtd.h) and reads tables as hardware does.

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "dma/address.h"
#include "dma/direction.h"
#include "iommu/vtd.h"
#include "testing/sim_vtd.h"

namespace dmamap {
namespace {

// Tables of 16 entries, so that leaves of every level are small: a region has
// 16 pages, a leaf of level 3 256, four levels 65,536.
struct SmallTables : SecondLevelPolicies {
  static constexpr unsigned kIndexBits = 4;
  static constexpr std::size_t kLocks = 4;
};
using Unit = VtdUnit<SimVtd<>, SimTableMemory, SmallTables>;
using Space = VtdSpace<Unit>;

constexpr PciSource kNic(3, 4, 1);

struct Page {
  std::uint64_t bus = 0;
  Permission permission = Permission::kNone;
  friend bool operator==(const Page&, const Page&) = default;
};

// A world and its flat map. Pages in `old` have been unmapped, and are waiting
// for an invalidation: the unit may still know them.
class World {
 public:
  World(const SimVtdOptions& options, unsigned address_bits)
      : memory(options.snoops), sim(&memory, options) {
    RC_ASSERT(unit.Init(&sim, &memory, {.polls = 4096}).ok());
    RC_ASSERT(space.Init(&unit, {.address_bits = address_bits}).ok());
    RC_ASSERT(space.Attach(kNic).ok());
    RC_ASSERT(unit.Enable().ok());
  }

  static Range RangeOf(std::uint64_t first, std::uint64_t pages) {
    return *Range::FromSize(Iova(first << 12), pages << 12);
  }
  // Of pages [first, first + n).
  template <class F>
  bool All(std::uint64_t first, std::uint64_t n, F&& f) const {
    for (std::uint64_t p = first; p < first + n; ++p) {
      if (!f(p)) return false;
    }
    return true;
  }
  bool IsMapped(std::uint64_t p) const { return pages.count(p) != 0; }

  void Map(std::uint64_t first, std::uint64_t n, std::uint64_t bus,
           Permission permission) {
    // An address is not used again before its invalidation.
    if (!All(first, n, [&](auto p) { return old.count(p) == 0; })) return;
    const Range range = RangeOf(first, n);
    const bool free = All(first, n, [&](auto p) { return !IsMapped(p); });
    const auto made = space.Map(range, PhysAddr(bus << 12), permission);
    if (range.last() > space.limit()) {
      RC_ASSERT(!made.ok() && made.error() == Error::kOutOfRange);
    } else if (!free) {
      RC_ASSERT(!made.ok());
      RC_ASSERT(made.error() == Error::kOverlap ||
                made.error() == Error::kNoMemory);
    } else if (!made.ok()) {
      RC_ASSERT(made.error() == Error::kNoMemory);
      RC_ASSERT(memory.fail_in == 0u);
    } else {
      for (std::uint64_t i = 0; i < n; ++i) {
        pages[first + i] = {(bus + i) << 12, permission};
      }
      RC_ASSERT(space.SyncMap(range).ok());
    }
  }
  void Unmap(std::uint64_t first, std::uint64_t n, bool strict) {
    const bool mapped = All(first, n, [&](auto p) { return IsMapped(p); });
    std::map<std::uint64_t, std::uint64_t> whole;
    for (std::uint64_t p = first; mapped && p < first + n; ++p) {
      whole[p] = WholeLeaf(p, first, n);
    }
    const auto done = space.Unmap(RangeOf(first, n));
    if (!mapped) {
      RC_ASSERT(!done.ok());
      RC_ASSERT(done.error() == Error::kNotMapped ||
                done.error() == Error::kNoMemory ||
                done.error() == Error::kOutOfRange);
      return;
    }
    if (!done.ok()) {
      RC_ASSERT(done.error() == Error::kNoMemory);
      RC_ASSERT(memory.fail_in == 0u);
      return;
    }
    for (std::uint64_t p = first; p < first + n; ++p) {
      old[p] = pages[p];
      leaf[p] = whole[p];
      pages.erase(p);
    }
    if (strict) Invalidate(first, n);
  }
  void Invalidate(std::uint64_t first, std::uint64_t n) {
    RC_ASSERT(space.Invalidate(RangeOf(first, n)).ok());
    for (std::uint64_t p = first; p < first + n; ++p) {
      // A leaf that went whole is forgotten as a whole.
      const std::uint64_t size = old.count(p) != 0 ? leaf[p] : 1;
      const std::uint64_t begin = p / size * size;
      if (begin >= first && begin + size <= first + n) old.erase(p);
    }
  }
  // Pages of the leaf that `p` is in, if all of it is in [first, first + n).
  std::uint64_t WholeLeaf(std::uint64_t p, std::uint64_t first,
                          std::uint64_t n) {
    const unsigned level = space.Lookup(Iova(p << 12))->level;
    const std::uint64_t size = std::uint64_t{1}
                               << SmallTables::kIndexBits * (level - 1);
    const std::uint64_t begin = p / size * size;
    return begin >= first && begin + size <= first + n ? size : 1;
  }
  void InvalidateAll() {
    RC_ASSERT(space.InvalidateAll().ok());
    old.clear();
    RC_ASSERT(space.stats().tables_retired == 0u);
  }
  void Protect(std::uint64_t first, std::uint64_t n, Permission permission) {
    const bool mapped = All(first, n, [&](auto p) { return IsMapped(p); });
    const auto done = space.Protect(RangeOf(first, n), permission);
    if (!mapped || !done.ok()) {
      RC_ASSERT(!done.ok());
      RC_ASSERT(!mapped ||
                (done.error() == Error::kNoMemory && memory.fail_in == 0u));
      return;
    }
    for (std::uint64_t p = first; p < first + n; ++p) {
      pages[p].permission = permission;
      old.erase(p);  // the range was invalidated
    }
  }

  // The device tries a page.
  void Touch(std::uint64_t p) {
    for (const Permission wanted : {Permission::kRead, Permission::kWrite}) {
      const auto found = sim.Translate(kNic, Iova((p << 12) + 5), wanted);
      const auto now = pages.find(p);
      if (now != pages.end()) {
        const bool may = Allows(now->second.permission, wanted);
        RC_ASSERT(found.has_value() == may);
        RC_ASSERT(!may || found->value() == now->second.bus + 5);
      } else if (found.has_value()) {
        const auto before = old.find(p);
        RC_ASSERT(before != old.end());
        RC_ASSERT(Allows(before->second.permission, wanted));
        RC_ASSERT(found->value() == before->second.bus + 5);
      }
    }
  }
  // One page in `every` of those mapped and those that were, with neighbours.
  void TouchSome(std::uint64_t every) {
    for (const auto* all : {&pages, &old}) {
      for (const auto& [p, page] : *all) {
        if ((p ^ p >> 4) % every != 0) continue;
        for (const std::uint64_t q : {p, p + 1, p ^ 16}) Touch(q);
      }
    }
  }
  // A walk without any memory, of every page around those that are mapped.
  void Compare() {
    RC_ASSERT(space.CheckInvariants());
    RC_ASSERT(unit.CheckInvariants());
    RC_ASSERT(memory.reads_of_freed == 0u);
    RC_ASSERT(sim.bad_descriptors == 0u);
    std::set<std::uint64_t> seen;
    for (const auto& [p, page] : pages) seen.insert({p - 1, p, p + 1});
    for (const std::uint64_t p : seen) {
      if (p > space.limit().value() >> 12) continue;
      const auto hit = sim.Walk(kNic, Iova(p << 12));
      const auto want = pages.find(p);
      RC_ASSERT(hit.present == (want != pages.end()));
      const auto looked = space.Lookup(Iova(p << 12));
      RC_ASSERT(looked.ok() == hit.present);
      if (!hit.present) continue;
      RC_ASSERT((Page{hit.bus, hit.permission} == want->second));
      RC_ASSERT(
          (Page{looked->bus.value(), looked->permission} == want->second));
    }
  }

  SimTableMemory memory;
  SimVtd<> sim;
  Unit unit;
  Space space;
  std::map<std::uint64_t, Page> pages;
  std::map<std::uint64_t, Page> old;
  std::map<std::uint64_t, std::uint64_t> leaf;  // of `old`: WholeLeaf
  bool merged_all = false;                      // up to level 3
};

std::uint64_t AnyPage(std::uint64_t limit) {
  // Around the ends of regions, of leaves of level 3 and of the space.
  const std::uint64_t base = *rc::gen::element<std::uint64_t>(
      0, 0, 0, 256, 240, 512, 4096, limit - 255, limit - 15);
  return base + *rc::gen::weightedOneOf<std::uint64_t>(
                    {{3, rc::gen::inRange<std::uint64_t>(0, 48)},
                     {2, rc::gen::just<std::uint64_t>(0)},
                     {1, rc::gen::inRange<std::uint64_t>(0, 300)}});
}
std::uint64_t AnySize() {
  return *rc::gen::weightedOneOf<std::uint64_t>(
      {{4, rc::gen::inRange<std::uint64_t>(1, 5)},
       {3, rc::gen::element<std::uint64_t>(15, 16, 17, 32)},
       {1, rc::gen::element<std::uint64_t>(255, 256, 257, 272)}});
}
Permission AnyPermission() {
  return *rc::gen::element(Permission::kRead, Permission::kWrite,
                           Permission::kReadWrite, Permission::kReadWrite,
                           Permission::kReadWrite);
}

// One to three mappings that exist, or parts of them, so that most calls hit.
std::pair<std::uint64_t, std::uint64_t> SomeMapped(const World& w) {
  auto at = w.pages.begin();
  std::advance(at, *rc::gen::inRange<std::size_t>(0, w.pages.size()));
  std::uint64_t first = at->first;
  if (*rc::gen::inRange(0, 2) == 0) first -= first % 16;
  return {first, AnySize()};
}

// A leaf of level 3, or nearly, in pieces of which the first may be of pages.
void MapInPieces(World& w) {
  const std::uint64_t first = 256 * *rc::gen::inRange<std::uint64_t>(0, 2);
  const std::uint64_t pieces =
      *rc::gen::weightedElement<std::uint64_t>({{4, 16}, {1, 15}});
  const std::uint64_t size = *rc::gen::element<std::uint64_t>(16, 16, 8, 4);
  for (std::uint64_t at = 0; at < pieces * 16; at += size) {
    w.Map(first + at, size, first + at + 0x1000, Permission::kReadWrite);
    if (w.space.Lookup(Iova(first << 12)).ok() &&
        w.space.Lookup(Iova(first << 12))->level == 3) {
      w.merged_all = true;
    }
  }
}

void Step(World& w) {
  const int what = *rc::gen::inRange(0, 20);
  const std::uint64_t limit = w.space.limit().value() >> 12;
  if (what == 0) return MapInPieces(w);
  if (what < 7 || w.pages.empty()) {
    const std::uint64_t first = AnyPage(limit);
    // Mostly in step with the address, so that leaves can be large.
    const std::uint64_t bus =
        first + *rc::gen::element<std::uint64_t>(0x1000, 0x1000, 0x1000, 0x1001,
                                                 0x1010);
    const bool one_by_one = *rc::gen::inRange(0, 4) == 0;
    const std::uint64_t size = AnySize();
    const Permission permission = AnyPermission();
    if (!one_by_one) return w.Map(first, size, bus, permission);
    for (std::uint64_t i = 0; i < std::min<std::uint64_t>(size, 40); ++i) {
      w.Map(first + i, 1, bus + i, permission);
    }
    return;
  }
  const auto [first, size] = SomeMapped(w);
  if (what < 13) {
    // What is there, as far as it goes.
    std::uint64_t n = 0;
    while (n < size && w.IsMapped(first + n)) ++n;
    w.Unmap(first, n == 0 || *rc::gen::inRange(0, 8) == 0 ? size : n,
            *rc::gen::inRange(0, 2) == 0);
  } else if (what < 15) {
    std::uint64_t n = 0;
    while (n < size && w.IsMapped(first + n)) ++n;
    w.Protect(first, n == 0 ? size : n, AnyPermission());
  } else if (what < 16) {
    w.InvalidateAll();
  } else if (what < 17 && !w.old.empty()) {
    w.Invalidate(w.old.begin()->first, AnySize());
  } else if (what < 18) {
    w.memory.fail_in = *rc::gen::inRange<std::uint64_t>(0, 3);
  } else {
    w.memory.fail_in = ~std::uint64_t{0};
  }
}

RC_GTEST_PROP(VtdProperty, TablesAreAFlatMap, ()) {
  SimVtdOptions options;
  options.index_bits = SmallTables::kIndexBits;
  options.levels = *rc::gen::element(3u, 4u);
  options.large = *rc::gen::inRange(0, 4) != 0;
  options.snoops = *rc::gen::inRange(0, 3) == 0;
  options.caches_absent = *rc::gen::inRange(0, 4) == 0;
  options.page_selective = *rc::gen::inRange(0, 6) != 0;
  options.most_mask = *rc::gen::element(2u, 3u, 7u, 9u, 18u);
  auto w = std::make_unique<World>(options, 12 + 4 * options.levels);
  const int steps = *rc::gen::inRange(1, 40);
  for (int i = 0; i < steps; ++i) {
    Step(*w);
    w->TouchSome(7 + static_cast<std::uint64_t>(i) % 3);
    w->Compare();
  }
  w->memory.fail_in = ~std::uint64_t{0};
  w->InvalidateAll();
  // All there was is given back.
  while (!w->pages.empty()) {
    w->Unmap(w->pages.begin()->first, 1, false);
    w->Compare();
  }
  w->InvalidateAll();
  const SecondLevelStats s = w->space.stats();
  RC_ASSERT(s.spares == 0u && s.tables_made - s.tables_freed == 1u);
  RC_CLASSIFY(s.splits != 0, "split");
  RC_CLASSIFY(s.merges != 0, "merged");
  RC_CLASSIFY(w->merged_all, "merged to level 3");
  RC_CLASSIFY(s.tables_freed > 2, "tables freed");
}

}  // namespace
}  // namespace dmamap
