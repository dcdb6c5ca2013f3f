// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_ORACLE_FOR_TEST_H_
#define DMAMAP_IOTLB_ORACLE_FOR_TEST_H_

// IotlbOracle: what an Iotlb must do, written the slow and obvious way: a
// vector of entries in order, each question answered by looking at all of them,
// a range translated byte by byte. For tests of this folder.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/result.h"
#include "iotlb/mapping.h"
#include "iotlb/pending_misses.h"

namespace dmamap::inline v0 {

inline Range RangeOf(std::uint64_t first, std::uint64_t last) {
  return Range::FromFirstLast(Iova(first), Iova(last)).value();
}

inline std::string Show(const Range &range) {
  std::ostringstream out;
  out << std::hex << "[0x" << range.first().value() << ", 0x"
      << range.last().value() << "]";
  return out.str();
}

class IotlbOracle {
 public:
  // Misses are of pages of 2^page_shift bytes.
  explicit IotlbOracle(const IotlbOptions &options = {},
                       unsigned page_shift = 12)
      : options_(options), in_page_((std::uint64_t{1} << page_shift) - 1) {}

  Result<void> Add(const IotlbEntry &entry) {
    const std::uint64_t address = entry.address.value();
    if (address + entry.range.size_minus_one() < address) {
      return Error::kOverflow;
    }
    if (options_.overlap_policy == OverlapPolicy::kRefuse &&
        !Overlapping(entry.range).empty()) {
      ++refused_overlap_;
      return Error::kOverlap;
    }
    const bool free = Overlapping(entry.range).empty();
    IotlbEntry whole = entry;
    std::vector<std::uint64_t> joined;  // ages
    if (free && options_.merge_policy == MergePolicy::kMerge) {
      for (const Aged &other : entries_) {
        if (other.overlapped) continue;
        if (Follows(other.entry, entry)) {
          joined.push_back(other.age);
          whole.address = other.entry.address;
          whole.range = RangeOf(other.entry.range.first().value(),
                                whole.range.last().value());
        } else if (Follows(entry, other.entry)) {
          joined.push_back(other.age);
          whole.range = RangeOf(whole.range.first().value(),
                                other.entry.range.last().value());
        }
      }
    }
    if (options_.limit != 0 &&
        entries_.size() + 1 - joined.size() > options_.limit) {
      if (options_.limit_policy == LimitPolicy::kRefuse) {
        ++refused_limit_;
        return Error::kLimit;
      }
      entries_.erase(Oldest());
      ++retired_;
    }
    std::erase_if(entries_, [&](const Aged &aged) {
      return std::find(joined.begin(), joined.end(), aged.age) != joined.end();
    });
    bool overlapped = false;
    for (Aged &other : entries_) {
      if (!other.entry.range.Overlaps(whole.range)) continue;
      other.overlapped = overlapped = true;
    }
    merges_ += joined.size();
    ++added_;
    Insert(whole, overlapped);
    (void)AnswerMisses(entry.range, entry.permission);
    return Ok();
  }

  // By the policy: whole mappings, or the part in `range`.
  Result<std::size_t> Remove(Range range) {
    std::vector<Aged> hit;
    for (const Aged &aged : entries_) {
      if (aged.entry.range.Overlaps(range)) hit.push_back(aged);
    }
    std::vector<std::pair<IotlbEntry, bool>> pieces;
    std::uint64_t cut = 0;
    if (options_.remove_policy == RemovePolicy::kSplit) {
      for (const Aged &aged : hit) {
        const std::size_t before = pieces.size();
        AddPieces(aged, range, pieces);
        cut += pieces.size() != before ? 1 : 0;
      }
    }
    if (options_.limit != 0 && options_.limit_policy == LimitPolicy::kRefuse &&
        entries_.size() - hit.size() + pieces.size() > options_.limit) {
      return Error::kLimit;
    }
    std::erase_if(entries_, [&](const Aged &aged) {
      return aged.entry.range.Overlaps(range);
    });
    cut_ += cut;
    for (const auto &[entry, overlapped] : pieces) Insert(entry, overlapped);
    while (options_.limit != 0 && entries_.size() > options_.limit) {
      entries_.erase(Oldest());
      ++retired_;
    }
    removed_ += hit.size();
    return hit.size();
  }

  // What merging would make of all that continues the mapping at `at`; of
  // several that do, the first in order.
  Result<IotlbEntry> Region(Iova at) const {
    const std::vector<IotlbEntry> start = Overlapping(Range::Byte(at));
    if (start.empty()) return Error::kNotMapped;
    IotlbEntry region = start.front();
    for (bool grown = true; grown;) {
      grown = false;
      for (const Aged &aged : entries_) {
        const bool before = Follows(aged.entry, region);
        if (!before && !Follows(region, aged.entry)) continue;
        if (before) region.address = aged.entry.address;
        region.range = before ? RangeOf(aged.entry.range.first().value(),
                                        region.range.last().value())
                              : RangeOf(region.range.first().value(),
                                        aged.entry.range.last().value());
        grown = true;
        break;
      }
    }
    return region;
  }

  // Every mapping of a byte of `memory`, by memory address.
  std::vector<IotlbEntry> MappingsOf(PhysRange memory) const {
    std::vector<Aged> found;
    for (const Aged &aged : entries_) {
      const PhysRange bytes =
          PhysRange::FromFirstLast(
              aged.entry.address,
              aged.entry.address + aged.entry.range.size_minus_one())
              .value();
      if (bytes.Overlaps(memory)) found.push_back(aged);
    }
    std::sort(found.begin(), found.end(), [](const Aged &a, const Aged &b) {
      return std::pair(a.entry.address, a.age) <
             std::pair(b.entry.address, b.age);
    });
    std::vector<IotlbEntry> entries;
    for (const Aged &aged : found) entries.push_back(aged.entry);
    return entries;
  }

  Result<IotlbEntry> RemoveExact(Range range, std::uint64_t token) {
    const auto at =
        std::find_if(entries_.begin(), entries_.end(), [&](const Aged &aged) {
          return aged.entry.range == range && aged.entry.token == token;
        });
    if (at == entries_.end()) return Error::kNotMapped;
    const IotlbEntry entry = at->entry;
    entries_.erase(at);
    ++removed_;
    return entry;
  }

  // The one behind `skip` others, in order, that overlap `range`.
  std::optional<IotlbEntry> RemoveOverlapping(Range range, std::size_t skip) {
    for (auto at = entries_.begin(); at != entries_.end(); ++at) {
      if (!at->entry.range.Overlaps(range) || skip-- != 0) continue;
      const IotlbEntry entry = at->entry;
      entries_.erase(at);
      ++removed_;
      return entry;
    }
    return std::nullopt;
  }

  void Clear() {
    removed_ += entries_.size();
    entries_.clear();
  }

  MissReport ReportMiss(Iova at, Permission wanted) {
    if (Lookup(at, wanted).ok()) return MissReport::kAnswered;
    const PendingMiss miss{Iova(at.value() & ~in_page_), wanted};
    if (std::find(misses_.begin(), misses_.end(), miss) != misses_.end()) {
      return MissReport::kPending;
    }
    if (misses_.size() >= options_.pending_misses) return MissReport::kFull;
    misses_.push_back(miss);
    return MissReport::kNew;
  }
  std::size_t AnswerMisses(Range range, Permission granted) {
    return std::erase_if(misses_, [&](const PendingMiss &miss) {
      const std::uint64_t page = miss.page.value();
      return RangeOf(page, page | in_page_).Overlaps(range) &&
             Allows(granted, miss.permission);
    });
  }
  // Oldest first.
  const std::vector<PendingMiss> &misses() const { return misses_; }

  Result<Translation> Lookup(Iova at, Permission wanted) const {
    bool covered = false;
    for (const Aged &aged : entries_) {
      if (!aged.entry.range.Contains(at)) continue;
      covered = true;
      if (Allows(aged.entry.permission, wanted)) {
        return TranslationOf(aged.entry, at);
      }
    }
    return covered ? Error::kPermission : Error::kNotMapped;
  }

  std::vector<IotlbEntry> Overlapping(Range range) const {
    std::vector<IotlbEntry> found;
    for (const Aged &aged : entries_) {
      if (aged.entry.range.Overlaps(range)) found.push_back(aged.entry);
    }
    return found;
  }
  std::vector<IotlbEntry> All() const { return Overlapping(Range::Whole()); }

  // What is wrong with `segments` as the translation of `range`, judged byte by
  // byte. For short ranges.
  std::optional<std::string> Judge(Range range, Permission wanted,
                                   const std::vector<Segment> &segments) const {
    const Segment *before = nullptr;
    for (const Segment &s : segments) {
      const bool in_place = before == nullptr
                                ? s.range.first() == range.first()
                                : before->range.IsFollowedBy(s.range);
      if (!in_place) return "a gap or a step back before " + Show(s.range);
      if (before != nullptr && before->kind == s.kind &&
          s.kind != SegmentKind::kMapped) {
        return "a miss or fault in two pieces at " + Show(s.range);
      }
      for (std::uint64_t i = 0;; ++i) {
        if (!JudgeByte(s, s.range.first() + i, wanted)) {
          return "wrong in " + Show(s.range) + " byte " + std::to_string(i);
        }
        if (i == s.range.size_minus_one()) break;
      }
      before = &s;
    }
    if (before == nullptr) return "no segment";
    if (before->range.last() != range.last()) return "ends too early or late";
    return std::nullopt;
  }

  // The entry that the limit would retire. REQUIRES: size() > 0.
  const IotlbEntry &OldestEntry() { return Oldest()->entry; }
  std::size_t size() const { return entries_.size(); }
  std::uint64_t retired() const { return retired_; }
  std::uint64_t added() const { return added_; }
  std::uint64_t removed() const { return removed_; }
  std::uint64_t refused_limit() const { return refused_limit_; }
  std::uint64_t refused_overlap() const { return refused_overlap_; }
  std::uint64_t merges() const { return merges_; }
  std::uint64_t splits() const { return cut_; }
  const IotlbOptions &options() const { return options_; }
  const IotlbEntry &operator[](std::size_t i) const {
    return entries_[i].entry;
  }

 private:
  struct Aged {
    IotlbEntry entry;
    std::uint64_t age;
    bool overlapped;  // by another mapping, at any time
  };

  // Byte by byte: `next` goes on where `entry` ends, in every respect.
  static bool Follows(const IotlbEntry &entry, const IotlbEntry &next) {
    const std::uint64_t last = entry.range.last().value();
    return last != ~std::uint64_t{0} &&
           next.range.first().value() == last + 1 &&
           next.address.value() ==
               entry.address.value() + entry.range.size_minus_one() + 1 &&
           next.address.value() > entry.address.value() &&
           next.permission == entry.permission && next.token == entry.token;
  }
  void Insert(const IotlbEntry &entry, bool overlapped) {
    const auto behind =
        std::find_if(entries_.begin(), entries_.end(), [&](const Aged &other) {
          return other.entry.range.first() > entry.range.first();
        });
    entries_.insert(behind, Aged{entry, next_age_++, overlapped});
  }
  // What `range` leaves of a mapping.
  static void AddPieces(const Aged &aged, Range range,
                        std::vector<std::pair<IotlbEntry, bool>> &pieces) {
    const Range whole = aged.entry.range;
    IotlbEntry piece = aged.entry;
    if (whole.first() < range.first()) {
      piece.range = RangeOf(whole.first().value(), range.first().value() - 1);
      pieces.emplace_back(piece, aged.overlapped);
    }
    if (whole.last() > range.last()) {
      const std::uint64_t first = range.last().value() + 1;
      piece.address = aged.entry.address + (first - whole.first().value());
      piece.range = RangeOf(first, whole.last().value());
      pieces.emplace_back(piece, aged.overlapped);
    }
  }

  std::vector<Aged>::iterator Oldest() {
    return std::min_element(
        entries_.begin(), entries_.end(),
        [](const Aged &a, const Aged &b) { return a.age < b.age; });
  }

  bool JudgeByte(const Segment &s, Iova at, Permission wanted) const {
    const Result<Translation> t = Lookup(at, wanted);
    switch (s.kind) {
      case SegmentKind::kMapped:
        return t.ok() && t->address == s.address + (at - s.range.first()) &&
               t->permission == s.permission && t->token == s.token;
      case SegmentKind::kMiss:
        return !t.ok() && t.error() == Error::kNotMapped;
      case SegmentKind::kFault:
        return !t.ok() && t.error() == Error::kPermission;
    }
    return false;
  }

  IotlbOptions options_;
  std::uint64_t in_page_;  // bits of an offset in a page
  std::vector<PendingMiss> misses_;
  std::vector<Aged> entries_;
  std::uint64_t next_age_ = 0;
  std::uint64_t retired_ = 0;
  std::uint64_t added_ = 0, removed_ = 0, merges_ = 0, cut_ = 0;
  std::uint64_t refused_limit_ = 0, refused_overlap_ = 0;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_ORACLE_FOR_TEST_H_
