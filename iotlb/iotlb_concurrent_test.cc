// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Readers beside each other, beside a writer under the embedder's lock, and
// beside a writer without any: each answer was right at some moment of the
// call, and what a removal has waited for may be freed. Writers beside each
// other, with the IOTLB's lock. TSan sees no race.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <shared_mutex>
#include <thread>
#include <utility>
#include <vector>

#include "iotlb/dump.h"
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
bool ReadAround(const Iotlb &iotlb, std::uint64_t i) {
  const IotlbEntry want = Numbered(i);
  const Iova at = want.range.first() + 0x123;
  const auto t = iotlb.Lookup(at, Permission::kRead);
  if (!t.ok() || t->token != i || t->address != want.address + 0x123) {
    return false;
  }
  const Range query = RangeOf(i * kStride, (i + 1) * kStride - 1);
  const auto e = iotlb.First(query);
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
  for (std::thread &reader : readers) reader.join();
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
    if (*iotlb.Remove(entry.range) == 0 && !iotlb.Add(entry).ok()) ++wrong;
  }
  for (std::thread &reader : readers) reader.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(iotlb.CheckInvariants());
}

// --- Readers beside a writer, without a lock.

struct Contended : IotlbPolicies {
  using WriterLock = SpinLock;
  static constexpr unsigned kKeys = 8;
  static constexpr unsigned kFrontBits = 2;
};

// One slot of address space, which the writer maps and unmaps. The writer says
// before and behind each change what it is about to do and has done, so that a
// reader can tell whether an answer was right at some moment of its call:
// `begun` and `done` are versions; version v odd: mapped with token v, even:
// not mapped.
struct alignas(64) Place {
  std::atomic<std::uint64_t> begun{0};
  std::atomic<std::uint64_t> done{0};
};
constexpr std::uint64_t kPlaces = 24;
constexpr std::uint64_t kPlaceBytes = 0x1800;  // every other page is shared

Range PlaceRange(std::uint64_t i) {
  return RangeOf(i * kPlaceBytes, i * kPlaceBytes + kPlaceBytes - 1);
}

template <class I, class Look>
bool LinearizableLookup(const std::array<Place, kPlaces> &places,
                        std::uint64_t i, Look &&look) {
  const std::uint64_t oldest = places[i].done.load();
  const Iova at = PlaceRange(i).first() + 0x17;
  const Result<Translation> t = look(at);
  const std::uint64_t newest = places[i].begun.load();
  if (t.ok()) {
    return t->token % 2 == 1 && oldest <= t->token && t->token <= newest &&
           t->address == PhysAddr(t->token * 0x10000 + 0x17) &&
           t->bytes_minus_one == kPlaceBytes - 1 - 0x17;
  }
  // Some even version lies in [oldest, newest].
  return t.error() == Error::kNotMapped && (oldest % 2 == 0 || newest > oldest);
}

// So too of an answer without a token: the memory tells which it was.
template <class I, class Look>
bool LinearizablePage(const std::array<Place, kPlaces> &places, std::uint64_t i,
                      Look &&look) {
  return LinearizableLookup<I>(places, i, [&](Iova at) -> Result<Translation> {
    const Result<PageTranslation> t = look(at);
    if (!t.ok()) return t.error();
    const std::uint64_t sure = t->bytes_minus_one;
    // The rest of the page at least, or else of the mapping.
    const bool far = sure == kPlaceBytes - 1 - 0x17 || sure == 0xfff - 0x17;
    return Translation{t->address, far ? kPlaceBytes - 1 - 0x17 : 0,
                       t->permission, t->address.value() / 0x10000};
  });
}

// What the readers met, so that a run in which they met nothing does not pass.
struct Met {
  std::atomic<std::uint64_t> hits{0}, misses{0};
  std::atomic<std::uint64_t> during{0};  // answers as a change was under way

  bool enough() const { return hits >= 200 && misses >= 200 && during >= 10; }
};

// The same of the segments of places `i` and `i + 1`: each mapped one is of a
// version of its place, and a miss of one that has none.
template <class I>
bool LinearizableSegments(const std::array<Place, kPlaces> &places,
                          std::uint64_t i, const I &iotlb) {
  std::array<std::uint64_t, 2> oldest{}, newest{};
  for (std::size_t p = 0; p < 2; ++p) oldest[p] = places[i + p].done.load();
  std::array<Segment, 8> out;
  const Range query = RangeOf(i * kPlaceBytes, (i + 2) * kPlaceBytes - 1);
  const std::size_t n = iotlb.Translate(query, Permission::kRead, out);
  for (std::size_t p = 0; p < 2; ++p) newest[p] = places[i + p].begun.load();
  Iova at = query.first();
  for (std::size_t k = 0; k < n; ++k) {
    const Segment &s = out[k];
    if (s.range.first() != at) return false;
    at = s.range.last() + 1;
    for (std::size_t p = 0; p < 2; ++p) {
      const Range place = PlaceRange(i + p);
      if (!s.range.Overlaps(place)) continue;
      const bool mapped = s.kind == SegmentKind::kMapped && s.range == place &&
                          s.token % 2 == 1 && oldest[p] <= s.token &&
                          s.token <= newest[p] &&
                          s.address == PhysAddr(s.token * 0x10000);
      const bool missed = s.kind == SegmentKind::kMiss &&
                          (oldest[p] % 2 == 0 || newest[p] > oldest[p]);
      if (!mapped && !missed) return false;
    }
  }
  return n != 0 && out[n - 1].range.last() == query.last();
}

void ReadPlaces(const BasicIotlb<Contended> &iotlb,
                BasicIotlb<Contended>::Reader &reader,
                const std::array<Place, kPlaces> &places,
                std::mt19937_64 &random, Met &met, std::atomic<int> &wrong) {
  using I = BasicIotlb<Contended>;
  const std::uint64_t i = random() % (kPlaces - 1);
  for (std::uint64_t again = random() % 4; again < 4; ++again) {
    const I::Reader::Section section(reader);
    const auto look = [&](Iova at) {
      const Result<Translation> t = reader.Lookup(at, Permission::kRead);
      ++(t.ok() ? met.hits : met.misses);
      if (places[i].begun.load() != places[i].done.load()) ++met.during;
      return t;
    };
    if (!LinearizableLookup<I>(places, i, look)) ++wrong;
    if (!LinearizablePage<I>(places, i, [&](Iova at) {
          return reader.LookupPage(at, Permission::kRead);
        })) {
      ++wrong;
    }
  }
  if (!LinearizableSegments(places, i, iotlb)) ++wrong;
}

class IotlbReadersAndWriter : public testing::TestWithParam<FrontPolicy> {};

TEST_P(IotlbReadersAndWriter, EachAnswerWasRightAtSomeMoment) {
  using I = BasicIotlb<Contended>;
  I iotlb;
  ASSERT_TRUE(iotlb.Init({.front_policy = GetParam()}).ok());
  std::array<Place, kPlaces> places;
  std::atomic<int> wrong{0}, started{0};
  std::atomic<bool> stop{false};
  Met met;
  std::vector<std::thread> readers;
  for (unsigned r = 0; r < 2; ++r) {
    readers.emplace_back([&, r] {
      std::mt19937_64 random(r);
      I::Reader reader;
      if (!reader.Init(iotlb).ok()) ++wrong;
      ++started;
      while (!stop.load(std::memory_order_relaxed)) {
        ReadPlaces(iotlb, reader, places, random, met, wrong);
      }
    });
  }
  while (started != 2) std::this_thread::yield();
  std::mt19937_64 random(99);
  for (int step = 0; step < 10000 || (!met.enough() && step < 5000000);
       ++step) {
    const std::uint64_t i = random() % kPlaces;
    Place &place = places[i];
    const std::uint64_t next = place.done.load() + 1;
    place.begun.store(next);
    if (next % 2 == 1) {
      const IotlbEntry entry{PlaceRange(i), PhysAddr(next * 0x10000),
                             Permission::kReadWrite, next};
      if (!iotlb.Add(entry).ok()) ++wrong;
    } else if (*iotlb.Remove(PlaceRange(i), step % 8 == 0
                                                ? RemoveMode::kSynchronous
                                                : RemoveMode::kDeferred) != 1) {
      ++wrong;
    }
    place.done.store(next);
  }
  stop = true;
  for (std::thread &reader : readers) reader.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(met.enough()) << met.hits << " hits, " << met.misses
                            << " misses, " << met.during << " during a change";
  EXPECT_TRUE(iotlb.CheckInvariants());
}

// Whole, with a hole in it, joined again by the piece that comes back, under
// another that overlaps it and goes, and retired by a limit of mappings: the
// ends of the place are what they were all the time but behind the last, and
// each segment is of the version that is there.
TEST(IotlbReadersAndWriterPieces, EachSegmentWasRightAtSomeMoment) {
  using I = BasicIotlb<Contended>;
  I iotlb;
  ASSERT_TRUE(iotlb
                  .Init({.limit = 3,
                         .limit_policy = LimitPolicy::kRetireOldest,
                         .remove_policy = RemovePolicy::kSplit,
                         .merge_policy = MergePolicy::kMerge})
                  .ok());
  const Range hole = RangeOf(0x800, 0xfff);
  std::atomic<std::uint64_t> begun{0}, done{0}, seen{0}, split{0}, during{0};
  std::atomic<int> wrong{0};
  std::atomic<bool> stop{false};
  std::thread reader([&] {
    while (!stop.load(std::memory_order_relaxed)) {
      const std::uint64_t oldest = done.load();
      std::array<Segment, 12> out;
      const std::size_t n =
          iotlb.Translate(RangeOf(0, 0x17ff), Permission::kRead, out);
      const std::uint64_t newest = begun.load();
      std::uint64_t at = 0, mapped = 0;
      for (std::size_t k = 0; k < n; ++k) {
        const Segment &s = out[k];
        if (s.range.first() != Iova(at)) ++wrong;
        at = s.range.last().value() + 1;
        if (s.kind == SegmentKind::kMiss) {
          // Nothing but the hole goes as a version lives.
          if (oldest == newest && oldest % 2 == 1 && !hole.Contains(s.range)) {
            ++wrong;
          }
          continue;
        }
        ++mapped;
        if (s.kind != SegmentKind::kMapped || s.token < oldest ||
            s.token > newest || s.token % 2 == 0 ||
            s.address !=
                PhysAddr(s.token * 0x10000) + s.range.first().value()) {
          ++wrong;
        }
      }
      if (at != 0x1800) ++wrong;
      seen += mapped != 0 ? 1 : 0;
      split += mapped > 1 ? 1 : 0;
      during += oldest != newest ? 1 : 0;
    }
  });
  const auto enough = [&] {
    return seen >= 100 && split >= 10 && during >= 10;
  };
  std::uint64_t rounds = 0;
  for (; rounds < 2000 || (!enough() && rounds < 1000000); ++rounds) {
    const std::uint64_t token = 2 * rounds + 1;
    const auto part = [&](std::uint64_t first, std::uint64_t last) {
      const IotlbEntry entry{RangeOf(first, last),
                             PhysAddr(token * 0x10000) + first,
                             Permission::kReadWrite, token};
      if (!iotlb.Add(entry).ok()) ++wrong;
    };
    begun.store(token);
    part(0, 0x17ff);
    done.store(token);
    if (!iotlb.Remove(hole, RemoveMode::kDeferred).ok()) ++wrong;
    part(0x800, 0xfff);
    part(0x400, 0x13ff);  // overlaps it, and means the same
    begun.store(token + 1);
    if (rounds % 2 == 0) {
      // Three others far away retire all that is here.
      for (std::uint64_t far = 1; far <= 3; ++far) {
        const IotlbEntry entry{RangeOf(far << 30, (far << 30) + 9),
                               PhysAddr(far), Permission::kRead, 0};
        if (!iotlb.Add(entry).ok()) ++wrong;
      }
    } else if (!iotlb.Remove(RangeOf(0, 0x17ff)).ok()) {
      ++wrong;
    }
    done.store(token + 1);
  }
  stop = true;
  reader.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(enough()) << seen << " mapped, " << split << " split, " << during
                        << " during a change";
  const IotlbStats stats = iotlb.stats();
  EXPECT_GE(stats.splits, rounds);
  EXPECT_GE(stats.merges, 2 * rounds);
  EXPECT_GE(stats.retired, rounds);
  EXPECT_TRUE(iotlb.CheckInvariants());
}

INSTANTIATE_TEST_SUITE_P(Front, IotlbReadersAndWriter,
                         testing::Values(FrontPolicy::kOn, FrontPolicy::kOff));

// Negative control: the check finds answers of another moment.
TEST(IotlbLinearizability, WrongAnswersAreFound) {
  using I = BasicIotlb<Contended>;
  std::array<Place, kPlaces> places;
  places[1].begun = places[1].done = 3;
  const auto says = [](Result<Translation> t) {
    return [t](Iova) { return t; };
  };
  const auto token = [](std::uint64_t n) {
    return Translation{PhysAddr(n * 0x10000 + 0x17), kPlaceBytes - 1 - 0x17,
                       Permission::kRead, n};
  };
  EXPECT_TRUE(LinearizableLookup<I>(places, 1, says(token(3))));
  EXPECT_FALSE(LinearizableLookup<I>(places, 1, says(token(1))));
  EXPECT_FALSE(LinearizableLookup<I>(places, 1, says(token(5))));
  EXPECT_FALSE(LinearizableLookup<I>(places, 1, says(Error::kNotMapped)));
  EXPECT_FALSE(LinearizableLookup<I>(places, 0, says(token(1))));
}

// What a removal that waits promises: the memory may be freed. The writer
// poisons it; a section that still reads it would see that (and TSan a race).
TEST(IotlbSections, MemoryMayBeFreedBehindRemove) {
  using I = BasicIotlb<Contended>;
  I iotlb;
  ASSERT_TRUE(iotlb.Init().ok());
  std::array<std::uint64_t, 64> memory{};
  const Range range = RangeOf(0x1000, 0x1000 + sizeof(memory) - 1);
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0}, met{0};
  I::Reader reader;
  ASSERT_TRUE(reader.Init(iotlb).ok());
  std::thread device([&] {
    while (!stop.load(std::memory_order_relaxed)) {
      const I::Reader::Section section(reader);
      const auto t = reader.Lookup(Iova(0x1000), Permission::kRead);
      if (!t.ok()) continue;
      ++met;
      const auto *words =
          reinterpret_cast<const std::uint64_t *>(PointerTo(t->address));
      for (int i = 0; i < 64; ++i) {
        if (words[i] != t->token) ++wrong;
      }
    }
  });
  for (std::uint64_t n = 1; n <= 3000 || (met < 100 && n < 3000000); ++n) {
    memory.fill(n);
    if (!iotlb.Add({range, PhysAddrOf(memory.data()), Permission::kRead, n})
             .ok()) {
      ++wrong;
    }
    if (*iotlb.Remove(range) != 1) ++wrong;
    memory.fill(0);
  }
  stop = true;
  device.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GE(met, 100);
}

// --- The dirty bitmap.

// Two devices write each page once, and mark it; a harvest beside them finds
// each mark once, and what was written before it (or TSan sees a race).
TEST(DirtyMapConcurrent, HarvestFindsEachMarkAndTheWriteBefore) {
  constexpr std::uint64_t kPages = 4096;
  DirtyMap<> dirty;
  const Range window = RangeOf(0, kPages * 4096 - 1);
  ASSERT_TRUE(dirty.Init(window, PageSize()).ok());
  std::vector<std::uint64_t> written(kPages, 0);
  std::atomic<int> started{0};
  std::vector<std::thread> devices;
  for (std::uint64_t d = 0; d < 2; ++d) {
    devices.emplace_back([&, d] {
      ++started;
      while (started != 3) std::this_thread::yield();
      for (std::uint64_t page = d; page < kPages; page += 2) {
        written[page] = page + 1;
        dirty.Set(Range::Byte(Iova(page * 4096 + 5)));
        if (page % 64 < 2) std::this_thread::yield();
      }
    });
  }
  ++started;
  std::vector<std::uint64_t> bits(kPages / 64);
  std::vector<bool> found(kPages);
  std::uint64_t count = 0, wrong = 0, turns = 0;
  for (; count < kPages && turns < 10000000; ++turns) {
    const std::uint64_t some = *dirty.Harvest(window, PageSize(), bits);
    count += some;
    if (some == 0) std::this_thread::yield();
    for (std::uint64_t page = 0; some != 0 && page < kPages; ++page) {
      if (((bits[page / 64] >> (page % 64)) & 1) == 0) continue;
      wrong += found[page] || written[page] != page + 1 ? 1 : 0;
      found[page] = true;
    }
  }
  for (std::thread &device : devices) device.join();
  EXPECT_EQ(count, kPages);
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(*dirty.Harvest(window, PageSize(), bits), 0u);
}

// --- Writers beside each other.

// A lock that lets a test play the other writer: `before` runs once as somebody
// comes to take it, `behind` once when it is free again.
class PausingLock {
 public:
  void lock() {
    Run(before);
    lock_.lock();
  }
  bool try_lock() { return lock_.try_lock(); }
  void unlock() {
    lock_.unlock();
    Run(behind);
  }

  static inline std::function<void()> before, behind;

 private:
  static void Run(std::function<void()> &pause) {
    if (pause) std::exchange(pause, nullptr)();
  }
  SpinLock lock_;
};
struct Pausing : IotlbPolicies {
  using WriterLock = PausingLock;
};

// A mapping that comes as Clear begins is one that it removes and waits for.
TEST(IotlbWriters, ClearWaitsForWhatCameBeforeItsLock) {
  using I = BasicIotlb<Pausing>;
  I iotlb;
  ASSERT_TRUE(iotlb.Init().ok());
  I::Reader reader;
  ASSERT_TRUE(reader.Init(iotlb).ok());
  std::atomic<bool> over{false};
  std::thread device;
  PausingLock::before = [&] {
    EXPECT_TRUE(iotlb.Add(Numbered(0)).ok());
    reader.Enter();
    EXPECT_TRUE(reader.Lookup(Iova(1), Permission::kRead).ok());
    device = std::thread([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      over = true;
      reader.Leave();
    });
  };
  iotlb.Clear();
  EXPECT_TRUE(over);
  device.join();
  EXPECT_EQ(iotlb.stats().removed, 1u);
}

// A miss that is reported once its mapping has gone again is not answered by
// the Add that is just ending.
TEST(IotlbWriters, AddAnswersNoLaterMiss) {
  using I = BasicIotlb<Pausing>;
  I iotlb;
  ASSERT_TRUE(iotlb.Init({.pending_misses = 4}).ok());
  const auto report = [&] {
    return iotlb.ReportMiss(Iova(1), Permission::kRead);
  };
  EXPECT_EQ(report(), MissReport::kNew);
  PausingLock::behind = [&] {
    EXPECT_EQ(report(), MissReport::kAnswered);
    EXPECT_EQ(*iotlb.Remove(RangeOf(0, 0)), 1u);
    EXPECT_EQ(report(), MissReport::kNew);
  };
  ASSERT_TRUE(iotlb.Add(Numbered(0)).ok());
  EXPECT_EQ(report(), MissReport::kPending);
}

// All that the writer's lock guards, on three threads: two that change, and one
// that asks what only the lock makes safe to ask.
struct Crowded : IotlbPolicies {
  using WriterLock = SpinLock;
  static constexpr bool kReverse = true;
};
TEST(IotlbWriters, EachCallTakesTheLock) {
  using I = BasicIotlb<Crowded>;
  constexpr std::uint64_t kEach = 1500;
  I iotlb;
  ASSERT_TRUE(iotlb
                  .Init({.limit = 64,
                         .limit_policy = LimitPolicy::kRetireOldest,
                         .remove_policy = RemovePolicy::kSplit,
                         .pending_misses = 8})
                  .ok());
  std::atomic<int> wrong{0};
  std::atomic<bool> start{false}, stop{false};
  std::atomic<std::uint64_t> removed{0};
  std::vector<std::thread> writers;
  for (std::uint64_t w = 0; w < 2; ++w) {
    writers.emplace_back([&, w] {
      while (!start) std::this_thread::yield();
      for (std::uint64_t n = 0; n < kEach; ++n) {
        const IotlbEntry entry = Numbered(w * 40 + n % 40);
        if (!iotlb.Add(entry).ok()) ++wrong;
        if (n % 3 == 0) {
          const Iova middle = entry.range.first() + 0x800;
          removed += iotlb.Remove(Range::Byte(middle)).value_or(0);
        } else if (n % 3 == 1) {
          removed += iotlb.RemoveExact(entry.range, entry.token).ok() ? 1 : 0;
        }
        if (n % 64 == 0) iotlb.Clear();
      }
    });
  }
  std::thread asker([&] {
    while (!start) std::this_thread::yield();
    for (int turn = 0; turn == 0 || !stop; ++turn) {
      I::Reader reader;
      if (!reader.Init(iotlb).ok()) ++wrong;
      (void)reader.Lookup(Iova(0x10), Permission::kRead).ok();
      if (iotlb.size() > 64 || iotlb.stats().entries > 64) ++wrong;
      if (turn % 16 == 0 && !iotlb.CheckInvariants()) ++wrong;
      std::size_t lines = 0;
      iotlb.Dump([&](std::string_view) { ++lines; });
      if (lines < 3) ++wrong;
      (void)iotlb.ReportMiss(Iova(0x5000), Permission::kRead);
    }
  });
  start = true;
  for (std::thread &writer : writers) writer.join();
  stop = true;
  asker.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(iotlb.CheckInvariants());
  const IotlbStats stats = iotlb.stats();
  EXPECT_EQ(stats.added, 2 * kEach);
  EXPECT_GE(stats.removed, removed);
  // What came by Add or by a cut went, or is there.
  EXPECT_GE(stats.added + stats.splits, stats.entries);
}

// The reverse walk is a reader's: what stays is found each time, whole, beside
// a writer of its aliases.
TEST(IotlbWriters, ReverseWalkTakesNoLock) {
  using I = BasicIotlb<Crowded>;
  I iotlb;
  ASSERT_TRUE(iotlb.Init().ok());
  const IotlbEntry stays{RangeOf(0x1000, 0x1fff), PhysAddr(0x80000),
                         Permission::kRead, 1};
  ASSERT_TRUE(iotlb.Add(stays).ok());
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0}, walks{0}, aliases{0};
  std::thread walker([&] {
    while (!stop.load(std::memory_order_relaxed)) {
      int met = 0, others = 0;
      iotlb.ForEachMappingOf(
          *PhysRange::FromSize(PhysAddr(0x80800), 16),
          [&](const IotlbEntry &e) {
            if (e == stays) {
              ++met;
            } else if (e.address == PhysAddr(0x80000 - 0x10 * e.token) &&
                       e.range.first() == Iova(e.token * 0x10000)) {
              ++others;
            } else {
              ++wrong;
            }
          });
      if (met != 1) ++wrong;
      if (others != 0) ++aliases;
      ++walks;
    }
  });
  while (walks == 0) std::this_thread::yield();
  for (std::uint64_t n = 0; n < 4000 || (aliases < 10 && n < 4000000); ++n) {
    const std::uint64_t i = 2 + n % 40;
    const IotlbEntry alias{RangeOf(i * 0x10000, i * 0x10000 + 0xfff),
                           PhysAddr(0x80000 - 0x10 * i), Permission::kRead, i};
    if (!iotlb.Add(alias).ok()) ++wrong;
    if (n % 2 == 1 && !iotlb.RemoveExact(alias.range, i).ok()) ++wrong;
    if (n % 2 == 0 && n >= 20) {
      (void)iotlb
          .Remove(RangeOf((2 + (n - 20) % 40) * 0x10000,
                          (2 + (n - 20) % 40) * 0x10000))
          .ok();
    }
  }
  stop = true;
  walker.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GE(aliases, 10);
  EXPECT_TRUE(iotlb.CheckInvariants());
}

}  // namespace
}  // namespace dmamap
