// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Every test runs in each of the ways in which a program can have restartable
// sequences: as this process has them, and in child processes (the last two
// tests) where glibc has not registered and where the kernel has none.

#include "dma/rseq.h"

#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <set>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#endif

#include "dma/rseq_for_test.h"

namespace dmamap {
namespace {

bool ByCpu(const RseqSlots& cpu) { return cpu.kind() != SlotKind::kThread; }
// A pinned thread keeps its number. The kernel may change a concurrency id at
// any moment, so what such a thread gets next is not known.
bool IsPinnable(const RseqSlots& cpu) {
  return cpu.kind() != SlotKind::kConcurrencyId;
}

TEST(Rseq, IsUsedWhereTheKernelHasIt) {
  const RseqSlots best, by_cpu(RseqMode::kCpuId), never(RseqMode::kNever);
  RecordProperty("kind", static_cast<int>(best.kind()));
  EXPECT_EQ(ByCpu(best), DMAMAP_HAS_RSEQ && KernelHasRseq());
  EXPECT_EQ(ByCpu(by_cpu), ByCpu(best));
  EXPECT_NE(by_cpu.kind(), SlotKind::kConcurrencyId);
  EXPECT_EQ(never.kind(), SlotKind::kThread);
  for (const RseqSlots* cpu : {&best, &by_cpu, &never}) {
    EXPECT_GE(cpu->slots(), 1u);
    EXPECT_TRUE(cpu->CheckInvariants());
  }
#if DMAMAP_HAS_RSEQ
  const char* expected = std::getenv("DMAMAP_RSEQ_EXPECT");
  if (expected != nullptr) {
    EXPECT_EQ(rseq::FindSource(), std::string(expected) == "own"
                                      ? rseq::Source::kOwn
                                      : rseq::Source::kNone);
  }
#endif
}

#if DMAMAP_HAS_RSEQ
TEST(Rseq, ReadsTheKernelsListsOfCpus) {
  EXPECT_EQ(rseq::EndOfCpuList("0\n"), 1u);
  EXPECT_EQ(rseq::EndOfCpuList("0-1\n"), 2u);
  EXPECT_EQ(rseq::EndOfCpuList("0-3,8-11\n"), 12u);
  EXPECT_EQ(rseq::EndOfCpuList("0,2,64"), 65u);
  EXPECT_EQ(rseq::EndOfCpuList(""), 0u);
  EXPECT_EQ(rseq::EndOfCpuList("\n"), 0u);
  EXPECT_EQ(rseq::EndOfCpuList("none\n"), 0u);
  EXPECT_EQ(rseq::EndOfCpuList("0-x\n"), 0u);
  EXPECT_EQ(rseq::EndOfCpuList("99999999999999999999\n"), 0u);
  EXPECT_GE(rseq::PossibleCpus(), AllowedCpus().back() + 1);
}
#endif

// One after the other, each under all modes.
class RseqModes : public testing::TestWithParam<RseqMode> {};
INSTANTIATE_TEST_SUITE_P(All, RseqModes,
                         testing::Values(RseqMode::kAuto, RseqMode::kCpuId,
                                         RseqMode::kNever));

TEST_P(RseqModes, ASlotIsBelowSlotsAndComesBack) {
  RseqSlots cpu(GetParam());
  const PinnedTo pinned(AllowedCpus().front());
  const std::size_t first = cpu.Acquire();
  ASSERT_LT(first, cpu.slots());
  EXPECT_EQ(cpu.CheckInvariants(), !ByCpu(cpu));  // it is held
  cpu.Release(first);
  EXPECT_TRUE(cpu.CheckInvariants());
  const std::size_t second = cpu.Acquire();
  ASSERT_LT(second, cpu.slots());
  if (IsPinnable(cpu)) {
    EXPECT_EQ(second, first);
  }
  cpu.Release(second);
}

TEST_P(RseqModes, ANestedCallNeverGetsTheSameCpusSlot) {
  RseqSlots cpu(RseqOptions{.mode = GetParam(), .slots_per_cpu = 3});
  const PinnedTo pinned(AllowedCpus().back());
  if (!ByCpu(cpu)) {  // a thread's slot is the thread's: nobody else's
    EXPECT_EQ(cpu.Acquire(), cpu.Acquire());
    return;
  }
  std::set<std::size_t> held;
  std::size_t calls = 0;
  for (std::size_t slot = cpu.Acquire(); slot != kNoSlot;
       slot = cpu.Acquire()) {
    ASSERT_LT(slot, cpu.slots());
    ASSERT_TRUE(held.insert(slot).second);  // so this comes to an end
    ++calls;
  }
  EXPECT_GE(calls, 3u);
  EXPECT_EQ(cpu.counters().refused, 1u);
  if (IsPinnable(cpu)) {
    EXPECT_EQ(calls, 3u);
    EXPECT_EQ(cpu.counters().spare, 2u);
    const std::size_t middle = *std::next(held.begin());
    cpu.Release(middle);
    EXPECT_EQ(cpu.Acquire(), middle);
  }
  for (std::size_t slot : held) cpu.Release(slot);
  EXPECT_TRUE(cpu.CheckInvariants());
}

TEST_P(RseqModes, AStalledHolderKeepsNobodyWaiting) {
  for (const std::size_t per_cpu : {1u, 2u}) {
    RseqSlots cpu(RseqOptions{.mode = GetParam(), .slots_per_cpu = per_cpu});
    const PinnedTo pinned(AllowedCpus().front());
    const std::size_t mine = cpu.Acquire();
    ASSERT_NE(mine, kNoSlot);
    std::size_t theirs = mine, later = mine;
    std::thread([&] {  // inherits the pin
      theirs = cpu.Acquire();
      if (theirs != kNoSlot) cpu.Release(theirs);
    })
        .join();
    EXPECT_NE(theirs, mine);
    // On the same CPU the two have the same number, so a second slot is what
    // decides. Threads each have their own.
    if (IsPinnable(cpu)) {
      EXPECT_EQ(theirs == kNoSlot, ByCpu(cpu) && per_cpu == 1);
    }
    cpu.Release(mine);
    std::thread([&] {
      later = cpu.Acquire();
      cpu.Release(later);
    }).join();
    if (IsPinnable(cpu)) {
      EXPECT_EQ(later == mine, ByCpu(cpu));
    }
  }
}

TEST(Rseq, ASlotIsReleasedFromAnotherCpu) {
  RseqSlots cpu(RseqOptions{.mode = RseqMode::kCpuId, .slots_per_cpu = 1});
  const PinnedTo first(AllowedCpus().front());
  const std::size_t slot = cpu.Acquire();
  ASSERT_NE(slot, kNoSlot);
  {
    const PinnedTo last(AllowedCpus().back());
    cpu.Release(slot);
  }
  EXPECT_TRUE(cpu.CheckInvariants());
  EXPECT_EQ(cpu.Acquire(), slot);
  if (ByCpu(cpu)) {
    EXPECT_EQ(slot, AllowedCpus().front());
  }
  cpu.Release(slot);
}

TEST(Rseq, ACpuBeyondTheSlotsHasNone) {
  const std::size_t last = AllowedCpus().back();
  const PinnedTo pinned(last);
  RseqSlots enough(RseqOptions{
      .mode = RseqMode::kCpuId, .slots_per_cpu = 1, .cpus = last + 1});
  const std::size_t slot = enough.Acquire();
  EXPECT_LT(slot, enough.slots());
  if (ByCpu(enough)) {
    EXPECT_EQ(enough.slots(), last + 1);
    EXPECT_EQ(slot, last);
  }
  enough.Release(slot);
  if (last == 0) return;  // a machine with one CPU has none beyond
  RseqSlots few(
      RseqOptions{.mode = RseqMode::kCpuId, .slots_per_cpu = 3, .cpus = last});
  EXPECT_EQ(few.Acquire() == kNoSlot, ByCpu(few));
  EXPECT_EQ(few.counters().refused, ByCpu(few) ? 1u : 0u);
}

TEST(Rseq, SlotsAreBounded) {
  const RseqSlots huge(
      RseqOptions{.slots_per_cpu = std::size_t{1} << 40, .cpus = 3});
  const RseqSlots wide(
      RseqOptions{.slots_per_cpu = 4, .cpus = std::size_t{1} << 40});
  const RseqSlots none(RseqOptions{.slots_per_cpu = 0, .cpus = 5});
  for (const RseqSlots* cpu : {&huge, &wide, &none}) {
    EXPECT_TRUE(cpu->CheckInvariants());
  }
  if (!ByCpu(huge)) return;
  EXPECT_EQ(huge.slots(), RseqSlots::kMaxSlots / 3 * 3);
  EXPECT_EQ(wide.slots(), RseqSlots::kMaxSlots);
  EXPECT_EQ(none.slots(), 5u);
}

struct RetireLog {
  std::vector<std::size_t> slots;
  SlotListener listener{&RetireLog::OnRetire, this};
  static void OnRetire(void* self, std::size_t slot) {
    static_cast<RetireLog*>(self)->slots.push_back(slot);
  }
};

// The thread uses a ThreadSlots too, whose exit is nothing to a CPU's slot: a
// listener that emptied the slot of that number would race with its holder.
TEST_P(RseqModes, ListenersHearOfThreadsOnlyWhereSlotsAreThreads) {
  RseqSlots cpu(GetParam());
  RetireLog log;
  cpu.Subscribe(log.listener);
  std::size_t thread_slot = kNoSlot;
  std::thread([&] {
    const SlotGuard slot(cpu);
    thread_slot = ThreadSlots().Acquire();
  }).join();
  cpu.Unsubscribe(log.listener);
  EXPECT_EQ(log.slots, ByCpu(cpu) ? std::vector<std::size_t>{}
                                  : std::vector<std::size_t>{thread_slot});
  const std::size_t heard = log.slots.size();
  std::thread([&] { const SlotGuard slot(cpu); }).join();
  EXPECT_EQ(log.slots.size(), heard);
}

// Many more threads than slots, one after the other and at once.
TEST_P(RseqModes, ThreadsComeAndGo) {
  RseqSlots cpu(GetParam());
  std::atomic<int> served{0};
  for (int round = 0; round < 20; ++round) {
    std::vector<std::thread> pool;
    for (int t = 0; t < 8; ++t) {
      pool.emplace_back([&] {
        const SlotGuard slot(cpu);
        if (slot.slot() != kNoSlot) ++served;
      });
    }
    for (std::thread& t : pool) t.join();
  }
  EXPECT_GT(served.load(), 0);
  EXPECT_TRUE(cpu.CheckInvariants());
}

// A thread-local object whose destructor runs after all others.
struct LateUser {
  RseqSlots* cpu = nullptr;
  std::size_t* seen = nullptr;
  bool* registered = nullptr;
  ~LateUser() {
    if (seen == nullptr) return;
    *registered = ThreadIsRegistered();
    *seen = cpu->Acquire();
    if (*seen != kNoSlot) cpu->Release(*seen);
  }
};

// Our own registration must be gone by then: the kernel writes to the thread's
// memory as long as it knows it.
TEST_P(RseqModes, AfterThreadLocalDestructorsOnlyTheLibcsRegistrationIsLeft) {
  RseqSlots cpu(GetParam());
  std::size_t seen = 0;
  bool registered = false;
  std::thread([&] {
    static thread_local LateUser late;  // made first, so destroyed last
    late.cpu = &cpu;
    late.seen = &seen;
    late.registered = &registered;
    const SlotGuard slot(cpu);
    EXPECT_NE(slot.slot(), kNoSlot);
  }).join();
#if DMAMAP_HAS_RSEQ
  const bool libc = rseq::FindSource() == rseq::Source::kLibc;
  EXPECT_EQ(registered, libc);
  EXPECT_EQ(seen != kNoSlot, ByCpu(cpu) && libc);
#else
  EXPECT_EQ(seen, kNoSlot);
#endif
  EXPECT_TRUE(cpu.CheckInvariants());
}

#if DMAMAP_HAS_RSEQ
// One page of owner words, to be interrupted in: an access that the page does
// not allow is a signal at that very instruction.
class SequenceTest : public testing::Test {
 protected:
  void SetUp() override {
    page_ = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(page_, MAP_FAILED);
    source_ = rseq::FindSource();
    g_page = page_;
    g_faults = 0;
    struct sigaction action = {};
    action.sa_handler = [](int) {
      g_faults = g_faults + 1;
      mprotect(g_page, kBytes, PROT_READ | PROT_WRITE);
    };
    sigaction(SIGSEGV, &action, &before_);
  }
  void TearDown() override {
    sigaction(SIGSEGV, &before_, nullptr);
    munmap(page_, kBytes);
  }
  std::uint64_t TakeOnce() {
    return rseq::TakeOwnerWord(AreaOffset(), rseq::Id::kCpu, page_, kLimit);
  }
  // Again when the kernel interrupted it for reasons of its own, until `done`.
  template <class Done>
  std::uint64_t Take(Done done) {
    std::uint64_t result = TakeOnce();
    for (int i = 0; i < 1000 && result == rseq::kInterrupted && !done(); ++i) {
      result = TakeOnce();
    }
    return result;
  }
  std::uint64_t Take() {
    return Take([] { return false; });
  }
  std::ptrdiff_t AreaOffset() const {
    return source_ == rseq::Source::kLibc ? rseq::LibcAreaOffset()
                                          : rseq::OwnThread::Offset();
  }
  static bool IsNoNumber(std::uint64_t result) {
    return result == rseq::kUnregistered || result == rseq::kRefused;
  }
  long Held() const {  // how many of the words are 1
    long held = 0;
    for (std::size_t n = 0; n < kLimit; ++n) held += word(n) != 0;
    return held;
  }
  volatile std::uint32_t& word(std::size_t n) const {
    return static_cast<std::uint32_t*>(page_)[n * rseq::kStride / 4];
  }

  static constexpr std::size_t kLimit = 1024;
  static constexpr std::size_t kBytes = kLimit * rseq::kStride;
  static inline void* g_page = nullptr;
  static inline volatile int g_faults = 0;
  void* page_ = nullptr;
  rseq::Source source_ = rseq::Source::kNone;
  struct sigaction before_ = {};
};

TEST_F(SequenceTest, TakesAWordOnce) {
  const PinnedTo pinned(AllowedCpus().back());
  const std::uint64_t number = Take();
  if (source_ == rseq::Source::kNone) {  // no number: nothing is written
    EXPECT_TRUE(IsNoNumber(number));
    EXPECT_EQ(Held(), 0);
    return;
  }
  EXPECT_EQ(number, AllowedCpus().back());
  EXPECT_EQ(word(number), 1u);
  EXPECT_EQ(Take(), rseq::kTaken);
  EXPECT_EQ(Held(), 1);
}

// At the load of the word, and at the store of 1, the last instruction.
TEST_F(SequenceTest, AbortsWhereverItIsInterrupted) {
  for (const int protection : {PROT_NONE, PROT_READ}) {
    const PinnedTo pinned(AllowedCpus().front());
    g_faults = 0;
    ASSERT_EQ(mprotect(page_, kBytes, protection), 0);
    const std::uint64_t result = Take([] { return g_faults != 0; });
    ASSERT_EQ(mprotect(page_, kBytes, PROT_READ | PROT_WRITE), 0);
    if (source_ == rseq::Source::kNone) {  // never gets as far
      EXPECT_TRUE(IsNoNumber(result));
      EXPECT_EQ(g_faults, 0);
      continue;
    }
    EXPECT_EQ(result, rseq::kInterrupted);
    EXPECT_EQ(g_faults, 1);
    EXPECT_EQ(Held(), 0);
    EXPECT_EQ(Take(), AllowedCpus().front());
    word(AllowedCpus().front()) = 0;
  }
}

// The descriptor is forgotten however the sequence ends, so that a library
// which contains it may be unloaded.
TEST_F(SequenceTest, LeavesNoDescriptorBehind) {
  const auto* area = reinterpret_cast<const volatile rseq::Area*>(
      rseq::ThreadPointer() + static_cast<std::uintptr_t>(AreaOffset()));
  if (source_ == rseq::Source::kNone) area = nullptr;
  for (int call = 0; call < 2; ++call) {
    (void)Take();
    EXPECT_TRUE(area == nullptr || area->section == 0);
  }
  (void)rseq::TakeOwnerWord(AreaOffset(), rseq::Id::kCpu, page_, 0);
  EXPECT_TRUE(area == nullptr || area->section == 0);
}

// The kernel's part, played by the test with an area that the kernel does not
// know: also where there is no kernel support, as under an emulator.
struct Descriptor {
  std::uint32_t version, flags;
  std::uint64_t start, length, abort;
};
constinit thread_local rseq::Area t_played = {};
volatile int g_checked = 0;  // what held of the descriptor, a bit each

void AbortAsTheKernelDoes(int, siginfo_t*, void* context) {
  auto& machine = static_cast<ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
  auto& pc = machine.gregs[REG_RIP];
#else
  auto& pc = machine.pc;
#endif
  const auto at = static_cast<std::uint64_t>(pc);
  const auto* d = reinterpret_cast<const Descriptor*>(t_played.section);
  const auto* signature = reinterpret_cast<const unsigned char*>(d->abort) - 4;
  std::uint32_t word;
  std::memcpy(&word, signature, sizeof(word));
  g_checked = (d->version == 0 && d->flags == 0 ? 1 : 0) |
              (at - d->start < d->length ? 2 : 0) |
              (d->abort - d->start >= d->length ? 4 : 0) |
              (word == rseq::kSignature ? 8 : 0);
  pc = static_cast<std::remove_reference_t<decltype(pc)>>(d->abort);
  t_played.section = 0;
}

class PlayedKernelTest : public SequenceTest {
 protected:
  std::uint64_t TakeAs(std::uint32_t cpu, std::uint32_t mm_cid, rseq::Id id,
                       std::uint64_t limit = kLimit) {
    t_played.cpu_id = cpu;
    t_played.mm_cid = mm_cid;
    const auto offset = static_cast<std::ptrdiff_t>(
        reinterpret_cast<std::uintptr_t>(&t_played) - rseq::ThreadPointer());
    const std::uint64_t result = rseq::TakeOwnerWord(offset, id, page_, limit);
    EXPECT_EQ(t_played.section, 0u);
    return result;
  }
};

TEST_F(PlayedKernelTest, TakesTheWordOfTheNumber) {
  using rseq::Id;
  EXPECT_EQ(TakeAs(5, 3, Id::kCpu), 5u);
  EXPECT_EQ(word(5), 1u);
  EXPECT_EQ(TakeAs(5, 3, Id::kCpu), rseq::kTaken);
  EXPECT_EQ(TakeAs(5, 3, Id::kConcurrency), 3u);
  EXPECT_EQ(word(3), 1u);
  EXPECT_EQ(TakeAs(1023, 0, Id::kCpu), 1023u);
  EXPECT_EQ(word(1023), 1u);
  EXPECT_EQ(Held(), 3);
  EXPECT_EQ(TakeAs(1024, 0, Id::kCpu), 1024u);  // beyond the limit
  EXPECT_EQ(TakeAs(7, 0, Id::kCpu, 7), 7u);
  EXPECT_EQ(TakeAs(0, 8, Id::kConcurrency, 8), 8u);
  EXPECT_EQ(Held(), 3);
}

// What mm_cid says then, 0, is not to be believed.
TEST_F(PlayedKernelTest, AThreadWithoutRegistrationHasNoNumber) {
  for (const rseq::Id id : {rseq::Id::kCpu, rseq::Id::kConcurrency}) {
    EXPECT_TRUE(IsNoNumber(TakeAs(rseq::kUnregistered, 0, id)));
    EXPECT_TRUE(IsNoNumber(TakeAs(rseq::kRefused, 0, id)));
  }
  EXPECT_EQ(Held(), 0);
}

TEST_F(PlayedKernelTest, AbortsAsItsDescriptorSays) {
  struct sigaction action = {};
  action.sa_sigaction = AbortAsTheKernelDoes;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, nullptr);
  for (const int protection : {PROT_NONE, PROT_READ}) {
    g_checked = 0;
    ASSERT_EQ(mprotect(page_, kBytes, protection), 0);
    EXPECT_EQ(TakeAs(6, 6, rseq::Id::kCpu), rseq::kInterrupted);
    EXPECT_EQ(g_checked, 15);
    ASSERT_EQ(mprotect(page_, kBytes, PROT_READ | PROT_WRITE), 0);
    EXPECT_EQ(Held(), 0);
  }
}
#endif

#if defined(__linux__)
TEST_P(RseqModes, AForkedChildHasSlotsButNotThoseThatWereHeld) {
  RseqSlots cpu(GetParam());
  const PinnedTo pinned(AllowedCpus().front());
  const std::size_t held = cpu.Acquire();
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const std::size_t slot = cpu.Acquire();
    if (!ByCpu(cpu)) _exit(slot == held ? 0 : 1);
    if (slot == held || slot >= cpu.slots()) _exit(2);
    cpu.Release(slot);
    const std::size_t again = cpu.Acquire();
    _exit(again == slot || (!IsPinnable(cpu) && again != held) ? 0 : 3);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  cpu.Release(held);
}

// The kernel has glibc's registration off: ours.
TEST(RseqInAChild, OwnRegistration) {
  if (!DMAMAP_HAS_RSEQ || !KernelHasRseq()) return;  // the other child's case
  EXPECT_EQ(RunAgain("own"), 0);
}

// The kernel answers ENOSYS.
TEST(RseqInAChild, NoKernelSupport) { EXPECT_EQ(RunAgain("none"), 0); }
#endif

}  // namespace
}  // namespace dmamap
