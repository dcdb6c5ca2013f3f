// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "bounce/memfd_pages.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bounce/page_calls_for_test.h"
#include "dma/address.h"

namespace dmamap {
namespace {

using testing_parts::AllAre;
using testing_parts::AllZero;
using testing_parts::CallPlan;
using testing_parts::PlannedCalls;
using testing_parts::PlannedPolicy;
using testing_parts::Scribble;

using PlannedMemfd = BasicMemfdPages<PlannedPolicy>;

constexpr std::uint64_t kPiece = std::uint64_t{2} << 20;
constexpr std::uint64_t kUnit = 4096;
const PageSize kPage;

MemfdPagesOptions Options(std::uint64_t pieces, std::uint64_t keep = 0) {
  MemfdPagesOptions o;
  o.capacity = pieces * kPiece;
  o.keep = keep;
  return o;
}

struct stat StatOf(int fd) {
  struct stat s = {};
  EXPECT_EQ(fstat(fd, &s), 0);
  return s;
}
// Bytes of memory behind the file.
std::uint64_t MemoryOf(int fd) {
  return static_cast<std::uint64_t>(StatOf(fd).st_blocks) * 512;
}

TEST(MemfdPages, BeforeInitAndBadOptions) {
  MemfdPages pages;
  EXPECT_EQ(pages.Allocate(kPage, 1).error(), Error::kShutDown);
  EXPECT_EQ(pages.Trim(), 0u);
  EXPECT_EQ(pages.fd(), -1);
  EXPECT_EQ(pages.PageAt(0), nullptr);
  std::byte b[8];
  EXPECT_EQ(pages.OffsetOf(b).error(), Error::kForeign);
  EXPECT_EQ(pages.Init(Options(0)).error(), Error::kInvalidArgument);
  ASSERT_TRUE(pages.Init(Options(1)).ok());
  EXPECT_EQ(pages.Init(Options(1)).error(), Error::kBusy);
}

TEST(MemfdPages, OffsetsAndTheWayBack) {
  MemfdPages pages;
  ASSERT_TRUE(pages.Init(Options(2)).ok());
  for (unsigned shift : {12u, 16u, 21u}) {
    const PageSize page = *PageSize::FromShift(shift);
    const auto p = pages.Allocate(page, 1);
    ASSERT_TRUE(p.ok());
    const auto offset = pages.OffsetOf(*p + 5);
    ASSERT_TRUE(offset.ok());
    EXPECT_EQ(pages.PageAt(*offset), *p + 5);
    EXPECT_TRUE(page.IsAligned(*offset - 5));  // in the file as in memory
    pages.Free(*p, page, 1);
  }
  EXPECT_EQ(pages.PageAt(pages.capacity()), nullptr);
  EXPECT_EQ(pages.OffsetOf(pages.PageAt(0) - 1).error(), Error::kForeign);
  EXPECT_EQ(pages.OffsetOf(pages.PageAt(0) + pages.capacity()).error(),
            Error::kForeign);
}

TEST(MemfdPages, GrowsWithUseAndTakesMemoryWherePagesAreOut) {
  MemfdPages pages;
  ASSERT_TRUE(pages.Init(Options(2)).ok());
  EXPECT_EQ(StatOf(pages.fd()).st_size, 0);
  const auto a = pages.Allocate(kPage, 4);
  ASSERT_TRUE(a.ok());
  EXPECT_EQ(StatOf(pages.fd()).st_size, 4 * 4096);
  EXPECT_EQ(MemoryOf(pages.fd()), 4 * kUnit);  // before it is touched
  const auto b = pages.Allocate(kPage, 1);
  ASSERT_TRUE(b.ok());
  pages.Free(*a, kPage, 4);
  EXPECT_EQ(MemoryOf(pages.fd()), kUnit);
  EXPECT_EQ(StatOf(pages.fd()).st_size, 5 * 4096);
  pages.Free(*b, kPage, 1);
  EXPECT_EQ(MemoryOf(pages.fd()), 0u);
}

TEST(MemfdPages, FreePunchesAHoleUnlessItKeeps) {
  for (const std::uint64_t keep : {std::uint64_t{0}, 2 * kUnit}) {
    MemfdPages pages;
    ASSERT_TRUE(pages.Init(Options(1, keep)).ok());
    std::vector<std::byte*> blocks;
    for (int i = 0; i < 3; ++i) {
      blocks.push_back(*pages.Allocate(kPage, 1));
      Scribble(blocks.back(), kUnit);
    }
    for (std::byte* b : blocks) pages.Free(b, kPage, 1);
    EXPECT_EQ(pages.stats().kept, keep);
    EXPECT_EQ(MemoryOf(pages.fd()), keep);
    // Two old pages and a hole, in one block.
    const auto all = pages.Allocate(kPage, 3);
    ASSERT_TRUE(all.ok());
    EXPECT_TRUE(AllZero(*all, 3 * kUnit));
    EXPECT_EQ(MemoryOf(pages.fd()), 3 * kUnit);
    pages.Free(*all, kPage, 3);
    const std::uint64_t left = pages.stats().kept;
    EXPECT_EQ(pages.Trim(), left);
    EXPECT_EQ(MemoryOf(pages.fd()), 0u);
    EXPECT_TRUE(pages.CheckInvariants());
  }
}

TEST(MemfdPages, TrimGivesBackEveryRowOfOldPages) {
  MemfdPages pages;
  ASSERT_TRUE(pages.Init(Options(2, kPiece)).ok());
  std::vector<std::byte*> blocks;
  for (int i = 0; i < 1024; ++i) blocks.push_back(*pages.Allocate(kPage, 1));
  for (std::size_t i = 0; i < 1024; i += i < 100 ? 2 : 1) {
    if (i == 900) continue;
    Scribble(blocks[i], kUnit);
    pages.Free(blocks[i], kPage, 1);
  }
  // 50 single pages and 923 in two rows, of which 512 were kept.
  EXPECT_EQ(pages.stats().kept, kPiece);
  EXPECT_EQ(pages.Trim(), kPiece);
  EXPECT_EQ(pages.stats().kept, 0u);
  EXPECT_EQ(MemoryOf(pages.fd()), 51 * kUnit);
  for (std::size_t i = 1; i < 100; i += 2) pages.Free(blocks[i], kPage, 1);
  pages.Free(blocks[900], kPage, 1);
  EXPECT_EQ(pages.in_use(), 0u);
  EXPECT_TRUE(pages.CheckInvariants());
}

// What a device process does: maps the file, reads, answers.
TEST(MemfdPages, AnotherProcessReadsAndWritesTheSamePages) {
  MemfdPages pages;
  ASSERT_TRUE(pages.Init(Options(2)).ok());
  (void)*pages.Allocate(kPage, 3);
  const auto page = pages.Allocate(kPage, 2);
  ASSERT_TRUE(page.ok());
  Scribble(*page, 2 * kUnit);
  const auto offset = static_cast<off_t>(*pages.OffsetOf(*page));
  const pid_t child = fork();
  if (child == 0) {
    void* at = mmap(nullptr, 2 * kUnit, PROT_READ | PROT_WRITE, MAP_SHARED,
                    pages.fd(), offset);
    if (at == MAP_FAILED) _exit(1);
    auto* bytes = static_cast<std::byte*>(at);
    if (!AllAre(bytes, 2 * kUnit, std::byte{0x5a})) _exit(2);
    bytes[kUnit] = std::byte{7};
    _exit(0);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ((*page)[kUnit], std::byte{7});
  pages.Free(*page, kPage, 2);
}

// A device process that is out to end ours.
TEST(MemfdPages, NobodyMakesTheFileShorterOrSealsIt) {
  MemfdPages pages;
  ASSERT_TRUE(pages.Init(Options(1)).ok());
  const auto page = pages.Allocate(kPage, 1);
  ASSERT_TRUE(page.ok());
  const int theirs = dup(pages.fd());
  EXPECT_NE(ftruncate(theirs, 0), 0);
  EXPECT_NE(fcntl(theirs, F_ADD_SEALS, F_SEAL_GROW), 0);
  EXPECT_NE(fcntl(theirs, F_ADD_SEALS, F_SEAL_WRITE), 0);
  // It may punch holes: that is writing zeros.
  EXPECT_EQ(
      fallocate(theirs, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096),
      0);
  Scribble(*page, kUnit);
  EXPECT_TRUE(AllAre(*page, kUnit, std::byte{0x5a}));
  pages.Free(*page, kPage, 1);
  close(theirs);
}

TEST(MemfdPages, EveryCallOfInitMayFail) {
  CallPlan plan;
  for (std::int64_t calls = 0; calls < 2; ++calls) {
    PlannedMemfd pages{PlannedCalls(&plan)};
    plan.fail_in = calls;
    EXPECT_EQ(pages.Init(Options(1)).error(), Error::kNoMemory);
    EXPECT_EQ(plan.files, 0);
    EXPECT_EQ(plan.mapped, 0);
    EXPECT_EQ(pages.Allocate(kPage, 1).error(), Error::kShutDown);
    ASSERT_TRUE(pages.Init(Options(1)).ok());
    EXPECT_EQ(plan.files, 1);
  }
  EXPECT_EQ(plan.files, 0);
  EXPECT_EQ(plan.mapped, 0);
}

TEST(MemfdPages, NoMemoryIsAnErrorAndNotASignal) {
  CallPlan plan;
  PlannedMemfd pages{PlannedCalls(&plan)};
  ASSERT_TRUE(pages.Init(Options(1, kPiece)).ok());
  plan.no_back = true;
  EXPECT_EQ(pages.Allocate(kPage, 2).error(), Error::kNoMemory);
  EXPECT_EQ(pages.in_use(), 0u);
  EXPECT_EQ(pages.stats().refused_by_memory, 1u);
  EXPECT_TRUE(pages.CheckInvariants());
  plan.no_back = false;
  const auto a = pages.Allocate(kPage, 2);
  ASSERT_TRUE(a.ok());
  Scribble(*a, 2 * kUnit);
  pages.Free(*a, kPage, 2);
  plan.no_back = true;
  // A page that is kept needs no memory.
  const auto b = pages.Allocate(kPage, 2);
  ASSERT_TRUE(b.ok());
  EXPECT_TRUE(AllZero(*b, 2 * kUnit));
  pages.Free(*b, kPage, 2);
  // Two that are kept and two that are not: all become holes.
  EXPECT_EQ(pages.Allocate(kPage, 4).error(), Error::kNoMemory);
  EXPECT_EQ(pages.stats().kept, 0u);
  EXPECT_EQ(MemoryOf(pages.fd()), 0u);
  EXPECT_TRUE(pages.CheckInvariants());
}

TEST(MemfdPages, WhereNothingWorksABlockIsGivenUpAndNothingElse) {
  CallPlan plan;
  PlannedMemfd pages{PlannedCalls(&plan)};
  ASSERT_TRUE(pages.Init(Options(1, kPiece)).ok());
  const auto a = pages.Allocate(kPage, 1);
  ASSERT_TRUE(a.ok());
  pages.Free(*a, kPage, 1);  // kept
  plan.no_back = true;
  plan.no_punch = true;
  EXPECT_EQ(pages.Allocate(kPage, 2).error(), Error::kNoMemory);
  EXPECT_EQ(pages.in_use(), 2 * kUnit);  // named, if not reached
  plan.no_back = false;
  const auto b = pages.Allocate(kPage, 1);
  ASSERT_TRUE(b.ok());
  EXPECT_EQ(*b, *a + 2 * kUnit);
  Scribble(*b, kUnit);
  pages.Free(*b, kPage, 1);
  EXPECT_EQ(pages.Trim(), 0u);  // no hole can be made; it is zeroed later
  const auto c = pages.Allocate(kPage, 1);
  ASSERT_TRUE(c.ok());
  EXPECT_TRUE(AllZero(*c, kUnit));
  pages.Free(*c, kPage, 1);
  EXPECT_TRUE(pages.CheckInvariants());
}

}  // namespace
}  // namespace dmamap
