// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// RseqSlots under preemption, migration and signals, on two or more CPUs: plain
// data of each slot must never be touched by two holders at once.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <ostream>
#include <thread>
#include <vector>

#include "dma/cpu.h"
#include "dma/rseq.h"
#include "dma/rseq_for_test.h"

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#include <sys/time.h>

namespace dmamap {
inline namespace v0 {
void PrintTo(const RseqOptions& o, std::ostream* out) {
  *out << "mode " << static_cast<int>(o.mode) << ", " << o.slots_per_cpu
       << " slots a CPU";
}
}  // namespace v0

namespace {

// A word whose races are no undefined behaviour, for the negative control.
class RacyWord {
 public:
  operator long() const { return value_.load(std::memory_order_relaxed); }
  void operator=(long v) { value_.store(v, std::memory_order_relaxed); }

 private:
  std::atomic<long> value_{0};
};

// What a holder does with its slot. Two at once lose an update, or one sees
// the words of the other half written.
template <class Word>
struct alignas(kCacheLine) Entry {
  Word first{};
  Word second{};

  // False when somebody else is in the middle of it.
  bool Use(bool yield) {
    const long a = first, b = second;
    first = a + 1;
    if (yield) std::this_thread::yield();
    const bool alone = first == a + 1 && second == b && a == b;
    second = b + 1;
    return alone;
  }
};

struct Tally {
  std::atomic<long> served{0};
  std::atomic<long> refused{0};
  std::atomic<long> clashes{0};
};

enum class Stress { kNone, kYield, kMigrate };

template <class Cpu, class Word>
void Work(Cpu& cpu, std::vector<Entry<Word>>& entries, Stress stress, int calls,
          Tally& tally) {
  const std::vector<std::size_t> cpus = AllowedCpus();
  PinnedTo pinned(cpus.front());
  long served = 0, refused = 0, clashes = 0;
  for (int i = 0; i < calls; ++i) {
    const bool migrate = stress == Stress::kMigrate && i % 61 == 0;
    const auto turn = static_cast<std::size_t>(i);
    if (migrate) pinned.Move(cpus[turn % cpus.size()]);
    const std::size_t slot = cpu.Acquire();
    if (slot == kNoSlot) {
      ++refused;
      if (i % 16 == 0) std::this_thread::yield();  // let the holder go on
      continue;
    }
    if (migrate) pinned.Move(cpus[(turn + 1) % cpus.size()]);
    clashes += !entries[slot].Use(stress != Stress::kNone && i % 37 == 0);
    cpu.Release(slot);
    ++served;
  }
  tally.served += served;
  tally.refused += refused;
  tally.clashes += clashes;
}

template <class Word>
long Sum(const std::vector<Entry<Word>>& entries) {
  long sum = 0;
  for (const Entry<Word>& e : entries) sum += e.second;
  return sum;
}

// For a scope, SIGALRM comes every 100 microseconds to some thread; Hit() sends
// one more signal to a thread of choice.
std::atomic<void (*)()> g_on_signal{nullptr};
std::atomic<long> g_signals{0};

void OnSignal(int) {
  g_signals.fetch_add(1, std::memory_order_relaxed);
  if (void (*handler)() = g_on_signal.load()) handler();
}

class SignalStorm {
 public:
  explicit SignalStorm(void (*handler)()) {
    g_signals = 0;
    g_on_signal = handler;
    struct sigaction action = {};
    action.sa_handler = OnSignal;
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, &alarm_before_);
    sigaction(SIGUSR1, &action, &user_before_);
    SetTimer(100);
  }
  ~SignalStorm() {
    SetTimer(0);
    g_on_signal = nullptr;
    // One that is still pending must not end the process.
    struct sigaction ignore = {};
    ignore.sa_handler = SIG_IGN;
    sigaction(SIGALRM, &ignore, nullptr);
    sigaction(SIGALRM, &alarm_before_, nullptr);
    sigaction(SIGUSR1, &user_before_, nullptr);
  }
  static void Hit(std::thread& target) {
    pthread_kill(target.native_handle(), SIGUSR1);
  }

 private:
  static void SetTimer(int microseconds) {
    itimerval every = {};
    every.it_interval.tv_usec = microseconds;
    every.it_value.tv_usec = microseconds;
    setitimer(ITIMER_REAL, &every, nullptr);
  }
  struct sigaction alarm_before_ = {};
  struct sigaction user_before_ = {};
};

const char* Name(SlotKind kind) {
  return kind == SlotKind::kThread  ? "threads"
         : kind == SlotKind::kCpuId ? "CPU numbers"
                                    : "concurrency ids";
}

class RseqStress : public testing::TestWithParam<RseqOptions> {
 protected:
  static constexpr int kThreads = 5;
  static constexpr int kCalls = 10000;

  void Run(Stress stress) {
    RseqSlots cpu(GetParam());
    std::vector<Entry<long>> entries(cpu.slots());
    Tally tally;
    std::vector<std::thread> pool;
    for (int t = 0; t < kThreads; ++t) {
      pool.emplace_back([&] { Work(cpu, entries, stress, kCalls, tally); });
    }
    for (std::thread& t : pool) t.join();
    EXPECT_EQ(tally.clashes, 0);
    EXPECT_EQ(Sum(entries), tally.served);
    EXPECT_EQ(tally.served + tally.refused, kThreads * kCalls);
    EXPECT_GT(tally.served, 0);
    EXPECT_TRUE(cpu.CheckInvariants());
    const bool by_cpu = cpu.kind() != SlotKind::kThread;
    EXPECT_EQ(cpu.counters().refused,
              by_cpu ? static_cast<std::uint64_t>(tally.refused) : 0u);
    if (!by_cpu) {
      EXPECT_EQ(tally.refused, 0);
    }
  }
};
INSTANTIATE_TEST_SUITE_P(
    All, RseqStress,
    testing::Values(RseqOptions{}, RseqOptions{.slots_per_cpu = 1},
                    RseqOptions{.mode = RseqMode::kCpuId},
                    RseqOptions{.mode = RseqMode::kNever}));

TEST_P(RseqStress, Preempted) { Run(Stress::kYield); }
TEST_P(RseqStress, Migrated) { Run(Stress::kMigrate); }

// The same with a storm of signals, whose handler takes slots itself wherever
// it interrupts: inside the sequence, or while the thread holds a slot.
struct HandlersWorld {
  RseqSlots* cpu;
  std::vector<Entry<long>>* entries;
  Tally tally;
};
HandlersWorld* g_world = nullptr;

void HandlerTakesASlot() {
  const std::size_t slot = g_world->cpu->Acquire();
  if (slot == kNoSlot) {
    g_world->tally.refused += 1;
    return;
  }
  g_world->tally.clashes += !(*g_world->entries)[slot].Use(false);
  g_world->cpu->Release(slot);
  g_world->tally.served += 1;
}

TEST_P(RseqStress, Interrupted) {
  RseqSlots cpu(GetParam());
  const bool by_cpu = cpu.kind() != SlotKind::kThread;
  std::vector<Entry<long>> entries(cpu.slots());
  HandlersWorld world{&cpu, &entries, {}};
  g_world = &world;
  Tally tally;
  std::atomic<int> ready{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> pool;
  for (int t = 0; t < 4; ++t) {
    pool.emplace_back([&] {
      // Registers the thread, if that is ours to do, outside a handler.
      { const SlotGuard first(cpu); }
      ++ready;
      while (!stop) {
        Work(cpu, entries, Stress::kNone, 2000, tally);
        std::this_thread::yield();
      }
    });
  }
  { const SlotGuard first(cpu); }
  while (ready < 4) std::this_thread::yield();
  {
    // As threads' slots, a handler may not call Acquire: it only interrupts.
    const SignalStorm storm(by_cpu ? HandlerTakesASlot : nullptr);
    const auto now = std::chrono::steady_clock::now;
    const auto least = now() + std::chrono::milliseconds(150);
    const auto most = now() + std::chrono::seconds(30);
    while (now() < least ||
           (by_cpu && cpu.counters().interrupted < 5 && now() < most)) {
      for (std::thread& t : pool) SignalStorm::Hit(t);
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    stop = true;
    for (std::thread& t : pool) t.join();
  }
  const RseqSlots::Counters counters = cpu.counters();
  std::printf(
      "slots by %s: %ld calls, %ld signals, %llu sequences interrupted, %llu "
      "spare slots, %llu refusals\n",
      Name(cpu.kind()), tally.served + tally.refused, g_signals.load(),
      static_cast<unsigned long long>(counters.interrupted),
      static_cast<unsigned long long>(counters.spare),
      static_cast<unsigned long long>(counters.refused));
  EXPECT_EQ(tally.clashes + world.tally.clashes, 0);
  EXPECT_EQ(Sum(entries), tally.served + world.tally.served);
  EXPECT_GT(g_signals, 0);
  // That the kernel does abort sequences, or nothing was tested.
  if (by_cpu) {
    EXPECT_GE(counters.interrupted, 5u);
  } else {
    EXPECT_EQ(counters.interrupted, 0u);
  }
  EXPECT_TRUE(cpu.CheckInvariants());
}

// Negative control: test and store without a restartable sequence.
class UnprotectedSlots {
 public:
  std::size_t slots() const { return 1; }
  std::size_t Acquire() {
    if (held_.load(std::memory_order_relaxed) != 0) return kNoSlot;
    if (++turn_ % 8 == 0) std::this_thread::yield();  // preempted here
    held_.store(1, std::memory_order_relaxed);
    return 0;
  }
  void Release(std::size_t) { held_.store(0, std::memory_order_relaxed); }
  void Subscribe(SlotListener&) {}
  void Unsubscribe(SlotListener&) {}

 private:
  std::atomic<int> held_{0};
  static thread_local int turn_;
};
thread_local int UnprotectedSlots::turn_ = 0;

TEST(RseqStressControl, FindsSlotsWithTwoHolders) {
  UnprotectedSlots cpu;
  std::vector<Entry<RacyWord>> entries(1);
  Tally tally;
  std::vector<std::thread> pool;
  for (int t = 0; t < 5; ++t) {
    pool.emplace_back(
        [&] { Work(cpu, entries, Stress::kYield, 20000, tally); });
  }
  for (std::thread& t : pool) t.join();
  EXPECT_GT(tally.clashes, 0);
  EXPECT_NE(Sum(entries), tally.served);
}

TEST(RseqStressInAChild, OwnRegistration) {
  if (!DMAMAP_HAS_RSEQ || !KernelHasRseq()) return;  // the other child's case
  EXPECT_EQ(RunAgain("own"), 0);
}

}  // namespace
}  // namespace dmamap

#endif  // __linux__
