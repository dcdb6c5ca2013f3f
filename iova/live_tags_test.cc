// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "iova/live_tags.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

namespace dmamap {
namespace {

TEST(Tag, KindsDoNotMix) {
  EXPECT_TRUE(Tag::Live(1).is_live());
  EXPECT_TRUE(Tag::Live(Tag::kMaxInline).is_live());
  EXPECT_EQ(Tag::Live(Tag::kMaxInline).value(), Tag::kMaxInline);
  EXPECT_TRUE(Tag::LiveLong().is_live());
  EXPECT_NE(Tag::LiveLong(), Tag::Live(1));
  EXPECT_TRUE(Tag::Cached(0).is_cached());
  EXPECT_TRUE(Tag::Cached(Tag::kMaxMagazines - 1).is_cached());
  EXPECT_NE(Tag::Cached(1), Tag::Cached(2));
  for (Tag tag : {Tag::Never(), Tag::Released(), Tag::Payload(~0ull)}) {
    EXPECT_FALSE(tag.is_live());
    EXPECT_FALSE(tag.is_cached());
  }
}

TEST(LiveTags, SaysWhatIsWrongWithAFree) {
  LiveTags<> tags;
  ASSERT_TRUE(tags.Init(36, 6).ok());
  EXPECT_EQ(tags.Check(100, 1).error(), Error::kForeign);
  ASSERT_TRUE(tags.EnsureRange(100, 3).ok());
  EXPECT_EQ(tags.Check(100, 3).error(), Error::kForeign);
  tags.MarkLive(100, 3);
  EXPECT_TRUE(tags.Check(100, 3).ok());
  EXPECT_EQ(tags.Check(100, 4).error(), Error::kMismatch);
  EXPECT_EQ(tags.Check(101, 2).error(), Error::kForeign);
  EXPECT_EQ(tags.Retire(100, 4, Tag::Released()).error(), Error::kMismatch);
  EXPECT_TRUE(tags.Retire(100, 3, Tag::Released()).ok());
  EXPECT_EQ(tags.Retire(100, 3, Tag::Released()).error(), Error::kDoubleFree);
  tags.Find(100, 2)->Store(Tag::Cached(9));
  EXPECT_EQ(tags.Check(100, 3).error(), Error::kDoubleFree);
}

TEST(LiveTags, RemembersLongLengthsAcrossLeaves) {
  LiveTags<> tags;
  ASSERT_TRUE(tags.Init(52, 6).ok());
  std::map<std::uint64_t, std::uint64_t> live;
  for (std::uint64_t pages :
       {Tag::kMaxInline, Tag::kMaxInline + 1, std::uint64_t{1} << 20,
        (std::uint64_t{1} << 51) + 12345}) {
    // Two granules before a leaf's end.
    const std::uint64_t first =
        ((std::uint64_t{1} << 11) * (2 + live.size()) - 2) * 64;
    ASSERT_TRUE(tags.EnsureRange(first, pages).ok());
    tags.MarkLive(first, pages);
    live[first] = pages;
  }
  for (const auto& [first, pages] : live) {
    EXPECT_TRUE(tags.Check(first, pages).ok());
    EXPECT_EQ(tags.Check(first, pages - 1).error(), Error::kMismatch);
    for (std::uint64_t i = 1; i < 6; ++i) {
      EXPECT_FALSE(tags.Check(first + i, 1).ok());
      EXPECT_FALSE(tags.Check(first + i * 64, pages).ok());
      EXPECT_FALSE(tags.Check(first + i * 64, 64).ok());
    }
  }
  std::map<std::uint64_t, std::uint64_t> seen;
  tags.ForEachLive(
      [&](std::uint64_t page, std::uint64_t n) { seen[page] = n; });
  EXPECT_EQ(seen, live);
  for (const auto& [first, pages] : live) {
    EXPECT_TRUE(tags.Retire(first, pages, Tag::Released()).ok());
    EXPECT_EQ(tags.Check(first, pages).error(), Error::kDoubleFree);
  }
}

// A page knows what began there, short or long; only one can be live.
TEST(LiveTags, ShortAndLongRangesShareAPage) {
  for (unsigned classes : {1u, 6u, 13u}) {
    LiveTags<> tags;
    ASSERT_TRUE(tags.Init(36, classes).ok());
    const std::uint64_t longer = (std::uint64_t{1} << classes) - (classes > 1);
    const std::uint64_t at = std::uint64_t{3} << classes;
    ASSERT_TRUE(tags.EnsureRange(at, 1).ok());
    ASSERT_TRUE(tags.EnsureRange(at, longer).ok());
    tags.MarkLive(at, longer);
    EXPECT_TRUE(tags.Check(at, longer).ok());
    EXPECT_EQ(tags.Check(at, 1).error(), Error::kMismatch);
    EXPECT_EQ(tags.CheckRetired(at, 1).error(), Error::kBusy);
    EXPECT_TRUE(tags.Retire(at, longer, Tag::Retired(longer)).ok());
    EXPECT_EQ(tags.CheckRetired(at, 1).error(), Error::kMismatch);
    EXPECT_EQ(tags.Check(at, 1).error(), Error::kDoubleFree);
    EXPECT_TRUE(tags.EndRetired(at, longer, Tag::Released()).ok());
    tags.MarkLive(at, 1);
    EXPECT_TRUE(tags.Check(at, 1).ok());
    EXPECT_EQ(tags.Check(at, longer).error(), Error::kMismatch);
    EXPECT_TRUE(tags.Retire(at, 1, Tag::Released()).ok());
    EXPECT_EQ(tags.Check(at, longer).error(), Error::kDoubleFree);
    EXPECT_EQ(tags.CheckRetired(at, 1).error(), Error::kDoubleFree);
  }
}

TEST(LiveTags, ListsShortAndLongRangesInOrder) {
  LiveTags<> tags;
  ASSERT_TRUE(tags.Init(36, 6).ok());
  const std::vector<std::pair<std::uint64_t, std::uint64_t>> live = {
      {0, 64},      {70, 2}, {128, 1}, {192, 33}, {1u << 20, 1u << 20},
      {1u << 25, 5}};
  for (const auto& [first, pages] : live) {
    ASSERT_TRUE(tags.EnsureRange(first, pages).ok());
    tags.MarkLive(first, pages);
  }
  std::vector<std::pair<std::uint64_t, std::uint64_t>> seen;
  tags.ForEachLive(
      [&](std::uint64_t page, std::uint64_t n) { seen.emplace_back(page, n); });
  EXPECT_EQ(seen, live);
}

// By address and hint the same cell as by page, and none for an address at
// which no range of its class can begin: fresh hints, used ones, any page size.
TEST(LiveTags, AHintFindsWhatALookUpFinds) {
  for (unsigned shift : {0u, 1u, 12u, 14u, 16u, 21u}) {
    LiveTags<> tags;
    ASSERT_TRUE(tags.Init(36, 6).ok());
    const std::uint64_t near = (std::uint64_t{1} << 13) - 2;  // a leaf's end
    ASSERT_TRUE(tags.Ensure(near, near + 3).ok());
    ASSERT_TRUE(tags.Ensure(5u << 13, 5u << 13).ok());
    LiveTags<>::Hint hint;
    std::set<LiveTags<>::Cell*> cells;
    for (int round = 0; round < 2; ++round) {
      for (std::uint64_t page :
           {std::uint64_t{0}, std::uint64_t{32}, std::uint64_t{33}, near,
            near + 1, near + 2, near + 34, std::uint64_t{5} << 13,
            (std::uint64_t{5} << 13) + 8, std::uint64_t{2} << 13,
            (std::uint64_t{1} << 36) - 1, std::uint64_t{1} << 36}) {
        for (unsigned c = 0; c < 6; ++c) {
          LiveTags<>::Cell* cell = tags.Find(page, c);
          EXPECT_EQ(tags.Find(page << shift, shift, c, hint), cell)
              << page << " class " << c;
          if (round == 0 && cell != nullptr) {
            EXPECT_TRUE(cells.insert(cell).second);
          }
          // Not at a page's first byte.
          for (unsigned bit = 0; bit < shift; ++bit) {
            const std::uint64_t byte =
                (page << shift) + (std::uint64_t{1} << bit);
            EXPECT_EQ(tags.Find(byte, shift, c, hint), nullptr);
          }
        }
      }
      EXPECT_EQ(tags.Find(~std::uint64_t{0}, shift, 0, hint), nullptr);
      for (std::uint64_t page :
           {std::uint64_t{0}, near, std::uint64_t{5} << 13}) {
        const std::uint64_t byte = (page << shift) | (std::uint64_t{1} << 63);
        EXPECT_EQ(tags.Find(byte, shift, 0, hint), nullptr) << shift;
      }
    }
    EXPECT_EQ(tags.Find(33, 1), nullptr);  // no multiple of two pages
    EXPECT_NE(tags.Find(32, 5), nullptr);
  }
}

}  // namespace
}  // namespace dmamap
