// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Const members write nothing: many callers at the same time see the same
// answers, and TSan sees no race. A writer comes between them under a lock, as
// the contract asks.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <random>
#include <shared_mutex>
#include <thread>
#include <vector>

#include "iotlb/iotlb.h"
#include "iotlb/oracle_for_test.h"

namespace dmamap {
namespace {

constexpr std::uint64_t kMappings = 2000;
constexpr std::uint64_t kStride = 0x3000;

IotlbEntry Numbered(std::uint64_t i) {
  return {RangeOf(i * kStride, i * kStride + 0xfff), PhysAddr(i * kStride * 2),
          Permission::kReadWrite, i};
}

// Every const member once, around mapping `i`; false when an answer is wrong.
bool ReadAround(const Iotlb& iotlb, std::uint64_t i) {
  const IotlbEntry want = Numbered(i);
  const Iova at = want.range.first() + 0x123;
  const auto t = iotlb.Lookup(at, Permission::kRead);
  if (!t.ok() || t->token != i || t->address != want.address + 0x123) {
    return false;
  }
  const Range query = RangeOf(i * kStride, (i + 1) * kStride - 1);
  const IotlbEntry* const e = iotlb.First(query);
  if (e == nullptr || *e != want || iotlb.Next(e, query) != nullptr) {
    return false;
  }
  std::array<Segment, 3> out;
  return iotlb.Translate(query, Permission::kWrite, out) == 2 &&
         iotlb.Lookup(want.range.last() + 1, Permission::kRead).error() ==
             Error::kNotMapped &&
         iotlb.size() >= kMappings && iotlb.stats().entries >= kMappings;
}

TEST(IotlbConcurrent, ReadersBesideEachOther) {
  Iotlb iotlb;
  ASSERT_TRUE(iotlb.Init().ok());
  for (std::uint64_t i = 0; i < kMappings; ++i) {
    ASSERT_TRUE(iotlb.Add(Numbered(i)).ok());
  }
  std::atomic<int> wrong{0};
  std::vector<std::thread> readers;
  for (unsigned r = 0; r < 4; ++r) {
    readers.emplace_back([&, r] {
      std::mt19937_64 random(r);
      for (int n = 0; n < 5000; ++n) {
        if (!ReadAround(iotlb, random() % kMappings)) ++wrong;
      }
    });
  }
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(wrong, 0);
}

TEST(IotlbConcurrent, WriterUnderTheEmbeddersLock) {
  Iotlb iotlb;
  std::shared_mutex lock;
  ASSERT_TRUE(iotlb.Init().ok());
  for (std::uint64_t i = 0; i < kMappings; ++i) {
    ASSERT_TRUE(iotlb.Add(Numbered(i)).ok());
  }
  std::atomic<int> wrong{0};
  std::vector<std::thread> readers;
  for (unsigned r = 0; r < 3; ++r) {
    readers.emplace_back([&, r] {
      std::mt19937_64 random(r);
      for (int n = 0; n < 2000; ++n) {
        std::shared_lock held(lock);
        if (!ReadAround(iotlb, random() % kMappings)) ++wrong;
      }
    });
  }
  // Comes and goes behind the mappings that the readers look at.
  for (std::uint64_t n = 0; n < 500; ++n) {
    std::unique_lock held(lock);
    const IotlbEntry entry = Numbered(kMappings + 1 + n % 50);
    if (iotlb.Remove(entry.range) == 0 && !iotlb.Add(entry).ok()) ++wrong;
  }
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(iotlb.CheckInvariants());
}

}  // namespace
}  // namespace dmamap
