// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_COMPARE_FOR_TEST_H_
#define DMAMAP_IOTLB_COMPARE_FOR_TEST_H_

// FirstDifference compares a real Iotlb with the oracle and says what differs.

#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/result.h"
#include "iotlb/mapping.h"
#include "iotlb/oracle_for_test.h"

namespace dmamap::inline v0 {

inline constexpr Permission kAllPermissions[] = {
    Permission::kNone, Permission::kRead, Permission::kWrite,
    Permission::kReadWrite};

// Looks one byte up both ways, for each permission.
template <class I>
std::optional<std::string> DifferenceAt(const IotlbOracle &oracle,
                                        const I &iotlb, Iova at) {
  const Result<IotlbEntry> region = oracle.Region(at);
  const Result<IotlbEntry> found = iotlb.Region(at);
  if (region.ok() != found.ok() || (region.ok() && *region != *found)) {
    return "Region of " + Show(Range::Byte(at));
  }
  for (const Permission wanted : kAllPermissions) {
    const Result<Translation> want = oracle.Lookup(at, wanted);
    const Result<Translation> got = iotlb.Lookup(at, wanted);
    const bool same = want.ok() == got.ok() &&
                      (want.ok() ? *want == *got : want.error() == got.error());
    if (!same) {
      return "Lookup of " + Show(Range::Byte(at)) + " for " + ToString(wanted);
    }
    // The same, but for how far it goes: perhaps less, and not behind a page.
    const Result<PageTranslation> page = iotlb.LookupPage(at, wanted);
    const bool agrees =
        want.ok() == page.ok() &&
        (want.ok() ? want->address == page->address &&
                         want->permission == page->permission &&
                         want->bytes_minus_one >= page->bytes_minus_one
                   : want.error() == page.error());
    if (!agrees) {
      return "LookupPage of " + Show(Range::Byte(at)) + " for " +
             ToString(wanted);
    }
  }
  return std::nullopt;
}

// The bytes at both ends of a range and right outside it, and at both ends of
// the space.
template <class I>
std::optional<std::string> DifferenceAround(const IotlbOracle &oracle,
                                            const I &iotlb, Range range) {
  for (const Iova at :
       {range.first() - 1, range.first(), range.first() + 1, range.last() - 1,
        range.last(), range.last() + 1, Iova::Min(), Iova::Max()}) {
    if (auto difference = DifferenceAt(oracle, iotlb, at)) return difference;
  }
  std::vector<IotlbEntry> walked;
  for (auto e = iotlb.First(range); e != nullptr; e = iotlb.Next(e, range)) {
    walked.push_back(*e);
    if (walked.size() > oracle.size()) return "a walk without an end";
  }
  std::vector<IotlbEntry> visited;
  iotlb.ForEach(range,
                [&](const IotlbEntry &entry) { visited.push_back(entry); });
  if (visited != walked) return "ForEach over " + Show(range);
  if (walked != oracle.Overlapping(range)) return "a walk over " + Show(range);
  return std::nullopt;
}

// Size and every entry in order.
template <class I>
std::optional<std::string> DifferenceInContents(const IotlbOracle &oracle,
                                                const I &iotlb) {
  if (iotlb.size() != oracle.size()) return "size";
  std::size_t i = 0;
  bool same = true;
  iotlb.ForEach([&](const IotlbEntry &entry) {
    same = same && i < oracle.size() && entry == oracle[i];
    ++i;
  });
  if (!same || i != oracle.size()) return "contents";
  return std::nullopt;
}

template <class I>
std::optional<std::string> FirstDifference(const IotlbOracle &oracle,
                                           const I &iotlb, Range around) {
  if (auto difference = DifferenceInContents(oracle, iotlb)) return difference;
  return DifferenceAround(oracle, iotlb, around);
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_COMPARE_FOR_TEST_H_
