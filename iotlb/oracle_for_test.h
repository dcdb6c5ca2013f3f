// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_ORACLE_FOR_TEST_H_
#define DMAMAP_IOTLB_ORACLE_FOR_TEST_H_

// IotlbOracle: what an Iotlb must do, written the slow and obvious way: a
// vector of entries in order, each question answered by looking at all of them,
// a range translated byte by byte. For tests of this folder.
//
// FirstDifference compares a real Iotlb with it and says what differs.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/result.h"
#include "iotlb/mapping.h"

namespace dmamap::inline v0 {

inline Range RangeOf(std::uint64_t first, std::uint64_t last) {
  return Range::FromFirstLast(Iova(first), Iova(last)).value();
}

inline std::string Show(const Range& range) {
  std::ostringstream out;
  out << std::hex << "[0x" << range.first().value() << ", 0x"
      << range.last().value() << "]";
  return out.str();
}

class IotlbOracle {
 public:
  explicit IotlbOracle(const IotlbOptions& options = {}) : options_(options) {}

  Result<void> Add(const IotlbEntry& entry) {
    const std::uint64_t address = entry.address.value();
    if (address + entry.range.size_minus_one() < address) {
      return Error::kOverflow;
    }
    if (options_.overlap_policy == OverlapPolicy::kRefuse &&
        !Overlapping(entry.range).empty()) {
      return Error::kOverlap;
    }
    if (options_.limit != 0 && entries_.size() >= options_.limit) {
      if (options_.limit_policy == LimitPolicy::kRefuse) return Error::kLimit;
      entries_.erase(Oldest());
      ++retired_;
    }
    const auto behind =
        std::find_if(entries_.begin(), entries_.end(), [&](const Aged& other) {
          return other.entry.range.first() > entry.range.first();
        });
    entries_.insert(behind, Aged{entry, next_age_++});
    return Ok();
  }

  std::size_t Remove(Range range) {
    return std::erase_if(entries_, [&](const Aged& aged) {
      return aged.entry.range.Overlaps(range);
    });
  }

  Result<IotlbEntry> RemoveExact(Range range, std::uint64_t token) {
    const auto at =
        std::find_if(entries_.begin(), entries_.end(), [&](const Aged& aged) {
          return aged.entry.range == range && aged.entry.token == token;
        });
    if (at == entries_.end()) return Error::kNotMapped;
    const IotlbEntry entry = at->entry;
    entries_.erase(at);
    return entry;
  }

  void Clear() { entries_.clear(); }

  Result<Translation> Lookup(Iova at, Permission wanted) const {
    bool covered = false;
    for (const Aged& aged : entries_) {
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
    for (const Aged& aged : entries_) {
      if (aged.entry.range.Overlaps(range)) found.push_back(aged.entry);
    }
    return found;
  }
  std::vector<IotlbEntry> All() const { return Overlapping(Range::Whole()); }

  // What is wrong with `segments` as the translation of `range`, judged byte by
  // byte. For short ranges.
  std::optional<std::string> Judge(Range range, Permission wanted,
                                   const std::vector<Segment>& segments) const {
    const Segment* before = nullptr;
    for (const Segment& s : segments) {
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
  const IotlbEntry& OldestEntry() { return Oldest()->entry; }
  std::size_t size() const { return entries_.size(); }
  std::uint64_t retired() const { return retired_; }
  const IotlbOptions& options() const { return options_; }
  const IotlbEntry& operator[](std::size_t i) const {
    return entries_[i].entry;
  }

 private:
  struct Aged {
    IotlbEntry entry;
    std::uint64_t age;
  };

  std::vector<Aged>::iterator Oldest() {
    return std::min_element(
        entries_.begin(), entries_.end(),
        [](const Aged& a, const Aged& b) { return a.age < b.age; });
  }

  bool JudgeByte(const Segment& s, Iova at, Permission wanted) const {
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
  std::vector<Aged> entries_;
  std::uint64_t next_age_ = 0;
  std::uint64_t retired_ = 0;
};

inline constexpr Permission kAllPermissions[] = {
    Permission::kNone, Permission::kRead, Permission::kWrite,
    Permission::kReadWrite};

// Looks one byte up both ways, for each permission.
template <class I>
std::optional<std::string> DifferenceAt(const IotlbOracle& oracle,
                                        const I& iotlb, Iova at) {
  for (const Permission wanted : kAllPermissions) {
    const Result<Translation> want = oracle.Lookup(at, wanted);
    const Result<Translation> got = iotlb.Lookup(at, wanted);
    const bool same = want.ok() == got.ok() &&
                      (want.ok() ? *want == *got : want.error() == got.error());
    if (!same) {
      return "Lookup of " + Show(Range::Byte(at)) + " for " + ToString(wanted);
    }
  }
  return std::nullopt;
}

// The bytes at both ends of a range and right outside it, and at both ends of
// the space.
template <class I>
std::optional<std::string> DifferenceAround(const IotlbOracle& oracle,
                                            const I& iotlb, Range range) {
  for (const Iova at :
       {range.first() - 1, range.first(), range.first() + 1, range.last() - 1,
        range.last(), range.last() + 1, Iova::Min(), Iova::Max()}) {
    if (auto difference = DifferenceAt(oracle, iotlb, at)) return difference;
  }
  std::vector<IotlbEntry> walked;
  for (const IotlbEntry* e = iotlb.First(range); e != nullptr;
       e = iotlb.Next(e, range)) {
    walked.push_back(*e);
    if (walked.size() > oracle.size()) return "a walk without an end";
  }
  if (walked != oracle.Overlapping(range)) return "a walk over " + Show(range);
  return std::nullopt;
}

// Size and every entry in order.
template <class I>
std::optional<std::string> DifferenceInContents(const IotlbOracle& oracle,
                                                const I& iotlb) {
  if (iotlb.size() != oracle.size()) return "size";
  std::size_t i = 0;
  bool same = true;
  iotlb.ForEach([&](const IotlbEntry& entry) {
    same = same && i < oracle.size() && entry == oracle[i];
    ++i;
  });
  if (!same || i != oracle.size()) return "contents";
  return std::nullopt;
}

template <class I>
std::optional<std::string> FirstDifference(const IotlbOracle& oracle,
                                           const I& iotlb, Range around) {
  if (auto difference = DifferenceInContents(oracle, iotlb)) return difference;
  return DifferenceAround(oracle, iotlb, around);
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_ORACLE_FOR_TEST_H_
