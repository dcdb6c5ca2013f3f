// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Ranges against sets of bytes: a 64-byte universe at either end of the
// address space, in which every range is a bit mask.

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdint>

#include "dma/address.h"

namespace dmamap {
namespace {

constexpr std::uint64_t kUniverse = 64;

struct Placed {
  std::uint64_t base;  // 0, or 2^64-64
  unsigned first;
  unsigned last;
};

std::uint64_t Mask(unsigned first, unsigned last) {
  const std::uint64_t upto =
      last == 63 ? ~std::uint64_t{0} : (std::uint64_t{1} << (last + 1)) - 1;
  return upto & ~((std::uint64_t{1} << first) - 1);
}

Placed Draw(std::uint64_t base) {
  const unsigned a = *rc::gen::inRange(0u, 64u);
  const unsigned b = *rc::gen::inRange(a, 64u);
  return {base, a, b};
}

Range ToRange(const Placed& p) {
  return *Range::FromFirstLast(Iova(p.base + p.first), Iova(p.base + p.last));
}

std::uint64_t DrawBase() {
  return *rc::gen::element(std::uint64_t{0}, std::uint64_t{0} - kUniverse);
}

std::uint64_t MaskOf(const Range& r, std::uint64_t base) {
  return Mask(static_cast<unsigned>(r.first().value() - base),
              static_cast<unsigned>(r.last().value() - base));
}

RC_GTEST_PROP(RangeProperty, SetOperationsAgreeWithBitMasks, ()) {
  const std::uint64_t base = DrawBase();
  const Placed p = Draw(base), q = Draw(base);
  const Range a = ToRange(p), b = ToRange(q);
  const std::uint64_t ma = Mask(p.first, p.last), mb = Mask(q.first, q.last);
  RC_ASSERT(a.Overlaps(b) == ((ma & mb) != 0));
  RC_ASSERT(a.Contains(b) == ((ma & mb) == mb));
  RC_ASSERT(a.IsFollowedBy(b) == (p.last + 1 == q.first));
  const Result<Range> both = a.Intersect(b);
  RC_ASSERT(both.ok() == ((ma & mb) != 0));
  if (both.ok()) RC_ASSERT(MaskOf(*both, base) == (ma & mb));
}

RC_GTEST_PROP(RangeProperty, SplitIsAPartition, ()) {
  const std::uint64_t base = DrawBase();
  const Placed p = Draw(base);
  const unsigned at = *rc::gen::inRange(0u, 64u);
  const auto parts = ToRange(p).SplitAt(Iova(base + at));
  RC_ASSERT(parts.ok() == (at > p.first && at <= p.last));
  if (!parts.ok()) return;
  RC_ASSERT(parts->first.IsFollowedBy(parts->second));
  RC_ASSERT((MaskOf(parts->first, base) | MaskOf(parts->second, base)) ==
            Mask(p.first, p.last));
}

RC_GTEST_PROP(RangeProperty, PageRoundingAgreesWithAByteWalk, ()) {
  const std::uint64_t base = DrawBase();
  const Placed p = Draw(base);
  const PageSize page = *PageSize::FromShift(*rc::gen::inRange(0u, 6u));
  std::uint64_t touched = 0, inside = 0;
  for (unsigned s = 0; s < 64; s += static_cast<unsigned>(page.bytes())) {
    const unsigned e = s + static_cast<unsigned>(page.bytes()) - 1;
    const std::uint64_t m = Mask(s, e), r = Mask(p.first, p.last);
    if ((m & r) != 0) touched |= m;
    if ((m & r) == m) inside |= m;
  }
  const Range range = ToRange(p);
  RC_ASSERT(MaskOf(range.RoundOutToPages(page), base) == touched);
  const Result<Range> in = range.RoundInToPages(page);
  RC_ASSERT(in.ok() == (inside != 0));
  if (in.ok()) RC_ASSERT(MaskOf(*in, base) == inside);
  RC_ASSERT(range.IsPageAligned(page) == (touched == inside));
}

}  // namespace
}  // namespace dmamap
