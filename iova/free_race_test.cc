// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Two frees of one address, interleaved by hand: the second runs inside the
// first, between its look at the tag and its write.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <type_traits>
#include <utility>

#include "dma/cpu.h"
#include "iova/allocator.h"
#include "iova/buddy_store.h"

namespace dmamap {
namespace {

// Runs once, at the next access to a tag.
std::function<void()> intruder;

void LetIn() {
  if (!intruder) return;
  const std::function<void()> now = std::exchange(intruder, nullptr);
  now();
}

// std::atomic, but the intruder runs after a tag was loaded and before one is
// exchanged.
template <class T>
class OpenAtom : public std::atomic<T> {
 public:
  using std::atomic<T>::atomic;
  T load(std::memory_order order) const {
    const T value = std::atomic<T>::load(order);
    if constexpr (std::is_same_v<T, std::uint32_t>) LetIn();
    return value;
  }
  bool compare_exchange_strong(T& expected, T desired,
                               std::memory_order success,
                               std::memory_order failure) {
    if constexpr (std::is_same_v<T, std::uint32_t>) LetIn();
    return std::atomic<T>::compare_exchange_strong(expected, desired, success,
                                                   failure);
  }
};

template <FreeCheck kCheck>
struct OpenPolicy : AllocatorPolicy {
  template <class T>
  using Atom = OpenAtom<T>;
  static constexpr FreeCheck kFreeCheck = kCheck;
};
template <FreeCheck kCheck>
using OpenAllocator = IovaAllocator<BuddyStore, FakeCpu, OpenPolicy<kCheck>>;

// Both slots have a magazine; slot 0 is current.
template <class Allocator>
void Prepare(Allocator& a) {
  ASSERT_TRUE(a.Init({}).ok());
  for (std::size_t slot : {1u, 0u}) {
    a.cpu().set_current(slot);
    ASSERT_TRUE(a.Free(*a.Allocate(1), 1).ok());
  }
}
// Frees from slot 1 while slot 0 is at it.
template <class Allocator>
void Intrude(Allocator& a, Iova p, Result<void>& outcome) {
  intruder = [&a, p, &outcome] {
    a.cpu().set_current(1);
    outcome = a.Free(p, 1);
    a.cpu().set_current(0);
  };
}

TEST(FreeRace, TheSurplusEntryOfAMissedRaceIsDropped) {
  OpenAllocator<FreeCheck::kOrdered> a(std::size_t{2});
  Prepare(a);
  const Iova p = *a.Allocate(1);
  Result<void> inner = Error::kBusy;
  Intrude(a, p, inner);
  EXPECT_TRUE(a.Free(p, 1).ok());
  EXPECT_TRUE(inner.ok());  // missed, as kOrdered may
  EXPECT_TRUE(a.CheckInvariants());
  EXPECT_EQ(a.Free(p, 1).error(), Error::kDoubleFree);
  // p is on top of both magazines; slot 0 wrote last.
  a.cpu().set_current(1);
  const Iova other = *a.Allocate(1);
  EXPECT_NE(other, p);
  EXPECT_EQ(a.stats().late_double_frees, 1u);
  a.cpu().set_current(0);
  EXPECT_EQ(*a.Allocate(1), p);
  EXPECT_EQ(a.stats().live, 2u);
  EXPECT_TRUE(a.CheckInvariants());
}

TEST(FreeRace, TheSurplusEntryIsDroppedOnItsWayToTheStoreToo) {
  OpenAllocator<FreeCheck::kOrdered> a(std::size_t{2});
  Prepare(a);
  const Iova p = *a.Allocate(1);
  Result<void> inner = Error::kBusy;
  Intrude(a, p, inner);
  EXPECT_TRUE(a.Free(p, 1).ok());
  a.cpu().Retire(1);
  EXPECT_TRUE(a.CheckInvariants());
  EXPECT_EQ(a.stats().late_double_frees, 1u);
  EXPECT_EQ(*a.Allocate(1), p);
  a.cpu().Retire(0);
  EXPECT_EQ(a.stats().cached, 0u);
  EXPECT_TRUE(a.CheckInvariants());
  EXPECT_TRUE(a.Free(p, 1).ok());
}

TEST(FreeRace, ExactFindsItAtOnce) {
  OpenAllocator<FreeCheck::kExact> a(std::size_t{2});
  Prepare(a);
  const Iova p = *a.Allocate(1);
  Result<void> inner = Error::kBusy;
  Intrude(a, p, inner);
  EXPECT_EQ(a.Free(p, 1).error(), Error::kDoubleFree);
  EXPECT_TRUE(inner.ok());
  EXPECT_TRUE(a.CheckInvariants());
  EXPECT_EQ(a.stats().live, 0u);
  EXPECT_EQ(a.stats().late_double_frees, 0u);
}

// Between the two steps of one free the other's magazine goes back to the
// store. kOrdered does not promise anything then (live_tags.h); kExact does.
TEST(FreeRace, ExactHoldsWhenTheAddressReachesTheStoreMeanwhile) {
  OpenAllocator<FreeCheck::kExact> a(std::size_t{2});
  Prepare(a);
  const Iova p = *a.Allocate(1);
  Result<void> inner = Error::kBusy;
  intruder = [&a, p, &inner] {
    a.cpu().set_current(1);
    inner = a.Free(p, 1);
    a.Trim();
    a.cpu().set_current(0);
  };
  EXPECT_EQ(a.Free(p, 1).error(), Error::kDoubleFree);
  EXPECT_TRUE(inner.ok());
  EXPECT_TRUE(a.CheckInvariants());
  EXPECT_EQ(a.stats().live, 0u);
}

// Large ranges do not pass a magazine: always exact.
TEST(FreeRace, LargeRangesAreAlwaysExact) {
  OpenAllocator<FreeCheck::kOrdered> a(std::size_t{2});
  Prepare(a);
  const Iova p = *a.Allocate(64);
  EXPECT_TRUE(a.Free(p, 64).ok());
  EXPECT_EQ(a.Free(p, 64).error(), Error::kDoubleFree);
  EXPECT_TRUE(a.CheckInvariants());
}

}  // namespace
}  // namespace dmamap
