// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// What went wrong in other IOTLBs, as checks that run on ours and on small
// models of theirs: a model without a fault passes each, the faulty one must
// not. A check returns what is wrong, or "".
//
//   Linux e2ae38cf3d91    a size of 2^64 is 0: a loop over [0, 2^64-1] never
//   ends Linux 9059c62f1197    a mapping of size 0 is accepted, and maps what
//   it
//                         should not
//   QEMU 05063f55         of two mappings of one page the wrong one goes
//   libvfio-user          the index of a bit of the dirty bitmap is a uint8_t

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "dma/address.h"
#include "dma/direction.h"
#include "iotlb/dirty.h"
#include "iotlb/iotlb.h"

namespace dmamap {
namespace {

constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();

// --- Tables ------------------------------------------------------------------

enum class Fault { kNone, kSizeOf64Bits, kTakesSizeZero, kRemovesByMemory };

template <Fault kFault>
class TableModel {
 public:
  bool AddSized(std::uint64_t first, std::uint64_t size) {
    if (size == 0 && kFault != Fault::kTakesSizeZero) return false;
    maps_.push_back({first, first + size - 1, size, first});
    return true;
  }
  bool Add(std::uint64_t first, std::uint64_t last, std::uint64_t memory) {
    if (last < first) return false;
    maps_.push_back({first, last, last - first + 1, memory});
    return true;
  }
  // As a red-black tree of closed intervals answers.
  bool Finds(std::uint64_t at) const { return FindAt(at) != maps_.end(); }
  // How many of the bytes are mapped one after the other from `first` on;
  // nullopt when it does not end.
  std::optional<std::uint64_t> Translate(std::uint64_t first,
                                         std::uint64_t bytes) const {
    std::uint64_t done = 0;
    for (int steps = 0; done < bytes; ++steps) {
      if (steps == 1000) return std::nullopt;
      const auto map = FindAt(first + done);
      if (map == maps_.end()) break;
      const std::uint64_t before = first + done - map->first;
      const std::uint64_t left = kFault == Fault::kSizeOf64Bits
                                     ? map->size - before
                                     : map->last - map->first - before + 1;
      done += kFault != Fault::kSizeOf64Bits && left == 0
                  ? bytes - done  // all 2^64
                  : std::min(bytes - done, left);
    }
    return done;
  }
  void Remove(std::uint64_t first, std::uint64_t last, std::uint64_t memory) {
    const auto gone = std::find_if(maps_.begin(), maps_.end(), [&](Map m) {
      if (kFault == Fault::kRemovesByMemory) return m.memory == memory;
      return m.first == first && m.last == last;
    });
    if (gone != maps_.end()) maps_.erase(gone);
  }

 private:
  struct Map {
    std::uint64_t first, last, size, memory;
  };
  auto FindAt(std::uint64_t at) const {
    return std::find_if(maps_.begin(), maps_.end(), [at](const Map& m) {
      return m.first <= at && at <= m.last;
    });
  }
  std::vector<Map> maps_;
};

struct ReversePolicies : IotlbPolicies {
  static constexpr bool kReverse = true;
};

class OurTable {
 public:
  OurTable() { EXPECT_TRUE(iotlb_.Init().ok()); }
  bool AddSized(std::uint64_t first, std::uint64_t size) {
    const Result<Range> range = Range::FromSize(Iova(first), size);
    return range.ok() &&
           iotlb_.Add({*range, PhysAddr(first), Permission::kRead, 0}).ok();
  }
  bool Add(std::uint64_t first, std::uint64_t last, std::uint64_t memory) {
    const Result<Range> range = RangeOf(first, last);
    return range.ok() &&
           iotlb_.Add({*range, PhysAddr(memory), Permission::kRead, 0}).ok();
  }
  bool Finds(std::uint64_t at) const {
    return iotlb_.Lookup(Iova(at), Permission::kRead).ok();
  }
  std::optional<std::uint64_t> Translate(std::uint64_t first,
                                         std::uint64_t bytes) const {
    std::array<Segment, 4> out;
    const std::size_t count = iotlb_.Translate(
        *RangeOf(first, first + (bytes - 1)), Permission::kRead, out);
    std::uint64_t done = 0;
    for (const Segment& s : std::span(out).first(count)) {
      if (s.kind != SegmentKind::kMapped) break;
      done += s.range.last().value() - s.range.first().value() + 1;
    }
    return done;
  }
  // By the memory, as who unplugs it does: the one of its aliases that is
  // meant.
  void Remove(std::uint64_t first, std::uint64_t last, std::uint64_t memory) {
    std::vector<IotlbEntry> aliases;
    const auto found = PhysRange::FromFirstLast(
        PhysAddr(memory), PhysAddr(memory + (last - first)));
    iotlb_.ForEachMappingOf(*found,
                            [&](const IotlbEntry& e) { aliases.push_back(e); });
    for (const IotlbEntry& e : aliases) {
      if (e.range == *RangeOf(first, last)) {
        EXPECT_TRUE(iotlb_.RemoveExact(e.range, e.token).ok());
      }
    }
  }

 private:
  static Result<Range> RangeOf(std::uint64_t first, std::uint64_t last) {
    return Range::FromFirstLast(Iova(first), Iova(last));
  }
  BasicIotlb<ReversePolicies> iotlb_;
};

template <class Table>
std::string WholeSpace() {
  Table table;
  if (!table.Add(0, kMax, 0)) return "refused";
  for (const std::uint64_t first : {std::uint64_t{0}, kMax - 99}) {
    const std::optional<std::uint64_t> done = table.Translate(first, 100);
    if (!done.has_value()) return "does not end";
    if (*done != 100) return "not all of it";
  }
  return "";
}

template <class Table>
std::string SizeZero() {
  for (const std::uint64_t first : {std::uint64_t{0}, std::uint64_t{4096}}) {
    Table table;
    if (table.AddSized(first, 0)) return "accepted";
    for (const std::uint64_t at : {first, first - 1, first + 1, kMax}) {
      if (table.Finds(at)) return "maps something";
    }
    if (!table.AddSized(first, 1) || !table.Finds(first)) return "one byte";
  }
  return "";
}

template <class Table>
std::string Aliases() {
  struct Page {
    std::uint64_t first, last;
  };
  const std::array<Page, 2> pages = {{{0x1000, 0x1fff}, {0x5000, 0x5fff}}};
  for (const std::size_t gone : {0u, 1u}) {
    Table table;
    for (const Page& p : pages) {
      if (!table.Add(p.first, p.last, 0x8000)) return "refused";
    }
    table.Remove(pages[gone].first, pages[gone].last, 0x8000);
    if (table.Finds(pages[gone].first)) return "the named one is there";
    if (!table.Finds(pages[1 - gone].first)) return "the other one went";
  }
  return "";
}

TEST(LinuxE2ae38cf3d91, TheWholeSpaceIsALoopThatEnds) {
  EXPECT_EQ(WholeSpace<OurTable>(), "");
  EXPECT_EQ(WholeSpace<TableModel<Fault::kNone>>(), "");
  EXPECT_EQ(WholeSpace<TableModel<Fault::kSizeOf64Bits>>(), "does not end");
}

TEST(Linux9059c62f1197, SizeZeroMapsNothing) {
  EXPECT_EQ(SizeZero<OurTable>(), "");
  EXPECT_EQ(SizeZero<TableModel<Fault::kNone>>(), "");
  EXPECT_EQ(SizeZero<TableModel<Fault::kTakesSizeZero>>(), "accepted");
  // What it has accepted: the whole space.
  TableModel<Fault::kTakesSizeZero> faulty;
  EXPECT_TRUE(faulty.AddSized(0, 0) && faulty.Finds(kMax));
}

TEST(Qemu05063f55, OfTwoMappingsOfAPageTheNamedOneGoes) {
  EXPECT_EQ(Aliases<OurTable>(), "");
  EXPECT_EQ(Aliases<TableModel<Fault::kNone>>(), "");
  EXPECT_EQ(Aliases<TableModel<Fault::kRemovesByMemory>>(),
            "the named one is there");
}

// --- Bitmaps -----------------------------------------------------------------

constexpr std::uint64_t kPages = 1024;  // of 4 KiB
using Bits = std::set<std::uint64_t>;

// Index is what a bit's number is kept in.
template <class Index>
class BitmapModel {
 public:
  void Set(std::uint64_t page) { dirty_.insert(page); }
  Bits Harvest(unsigned shift) const {
    Bits bits;
    for (const std::uint64_t page : dirty_) {
      const std::uint64_t first = (page << 12) >> shift;
      const std::uint64_t last = ((page << 12) + 4095) >> shift;
      for (std::uint64_t i = first; i <= last; ++i) {
        bits.insert(static_cast<Index>(i));
      }
    }
    return bits;
  }

 private:
  Bits dirty_;
};

class OurBitmap {
 public:
  OurBitmap() { EXPECT_TRUE(dirty_.Init(Window(), PageSize()).ok()); }
  void Set(std::uint64_t page) {
    dirty_.Set(Range::Byte(Iova(page * 4096 + 7)));
  }
  Bits Harvest(unsigned shift) {
    std::vector<std::uint64_t> words(64);
    EXPECT_TRUE(
        dirty_.Harvest(Window(), *PageSize::FromShift(shift), words).ok());
    Bits bits;
    for (std::uint64_t i = 0; i < words.size() * 64; ++i) {
      if ((words[i / 64] >> i % 64 & 1) != 0) bits.insert(i);
    }
    return bits;
  }

 private:
  static Range Window() {
    return *Range::FromFirstLast(Iova(0), Iova(kPages * 4096 - 1));
  }
  DirtyMap<> dirty_;
};

template <class Bitmap>
std::string ManyBits() {
  for (const std::uint64_t page : {0u, 255u, 256u, 511u, 700u, 1023u}) {
    for (const unsigned shift : {10u, 12u, 13u}) {
      Bitmap bitmap;
      bitmap.Set(page);
      Bits want;
      for (std::uint64_t at = page << 12; at < (page + 1) << 12; at += 1024) {
        want.insert(at >> shift);
      }
      if (bitmap.Harvest(shift) != want) {
        return "page " + std::to_string(page) + " at shift " +
               std::to_string(shift);
      }
    }
  }
  return "";
}

TEST(LibvfioUser, ABitsIndexIsWiderThanAByte) {
  EXPECT_EQ(ManyBits<OurBitmap>(), "");
  EXPECT_EQ(ManyBits<BitmapModel<std::uint64_t>>(), "");
  EXPECT_EQ(ManyBits<BitmapModel<std::uint8_t>>(), "page 255 at shift 10");
}

}  // namespace
}  // namespace dmamap
