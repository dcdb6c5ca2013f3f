// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_MEASURE_H_
#define DMAMAP_BENCHMARKS_PEERS_MEASURE_H_

// The instruments: clocks, a random number generator, threads that start
// together, a queue between two of them.
//
// Throughput is measured in thread CPU time over batches of some milliseconds,
// which time sharing with other programs does not inflate; single operations
// are measured in wall time, because reading the CPU clock is a system call.
// Linux.

#include <sched.h>
#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#include "absl/functional/function_ref.h"

namespace dmamap::peers {

inline std::uint64_t ReadClock(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(t.tv_nsec);
}
// Nanoseconds since an unspecified moment.
inline std::uint64_t WallNs() { return ReadClock(CLOCK_MONOTONIC); }
// Nanoseconds that the calling thread has spent on a CPU.
inline std::uint64_t ThreadCpuNs() {
  return ReadClock(CLOCK_THREAD_CPUTIME_ID);
}
// How often the calling thread was taken off its CPU against its will.
inline long Preemptions() {
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nivcsw;
}

// What WallNs() adds to an operation that is timed by one reading before and
// one behind it, in nanoseconds: the mean over many empty timings.
inline double ClockReadNs() {
  constexpr int kReadings = 20'000;
  std::array<double, 9> means{};
  for (double& mean : means) {
    std::uint64_t sum = 0;
    for (int i = 0; i < kReadings; ++i) {
      const std::uint64_t before = WallNs();
      sum += WallNs() - before;
    }
    mean = static_cast<double>(sum) / kReadings;
  }
  std::nth_element(means.begin(), means.begin() + 4, means.end());
  return means[4];
}

// Makes the compiler believe that `value` is used.
template <class T>
inline void Keep(const T& value) {
  if constexpr (std::is_scalar_v<T>) {
    // With a choice of memory, compilers take that where registers are few.
    asm volatile("" : : "r"(value) : "memory");
  } else if constexpr (sizeof(T) <= sizeof(void*)) {
    asm volatile("" : : "r,m"(value) : "memory");
  } else {
    // Where it is: with a choice of registers it would be copied first.
    asm volatile("" : : "m"(value) : "memory");
  }
}

// Tells the CPU that this is a spinning loop.
inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits for another thread: spins, and after some hundred microseconds lets
// others run, in case there are fewer CPUs than threads.
class SpinWait {
 public:
  void Spin() {
    if (++spins_ < 10'000) {
      Pause();
    } else {
      std::this_thread::yield();
    }
  }

 private:
  unsigned spins_ = 0;
};

// The calling thread runs on the n-th of the CPUs that it may run on, modulo
// their number. False when the system refuses.
inline bool PinToCpu(unsigned n) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return false;
  n %= static_cast<unsigned>(CPU_COUNT(&allowed));
  for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || n-- != 0) continue;
    CPU_ZERO(&allowed);
    CPU_SET(cpu, &allowed);
    return sched_setaffinity(0, sizeof(allowed), &allowed) == 0;
  }
  return false;
}

// xorshift64* (Marsaglia 2003, Vigna 2016): 1 ns, good enough to choose slots.
class Random {
 public:
  explicit Random(std::uint64_t seed)
      : state_((seed * 0x9e3779b97f4a7c15) | 1) {
    for (int i = 0; i < 8; ++i) (*this)();
  }
  std::uint64_t operator()() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1d;
  }
  // Uniform in [0, n), n below 2^32: the upper half of a 64-bit product.
  std::uint64_t Below(std::uint64_t n) { return (((*this)() >> 32) * n) >> 32; }

  template <class T>
  void Shuffle(std::vector<T>& items) {
    for (std::size_t i = items.size(); i > 1; --i) {
      std::swap(items[i - 1], items[Below(i)]);
    }
  }

 private:
  std::uint64_t state_;
};

// Threads that live as long as the team and sleep between jobs, thread t on the
// t-th CPU. Each thread's thread-local state is thus the team's own.
class ThreadTeam {
 public:
  explicit ThreadTeam(unsigned size) : size_(size) {
    for (unsigned t = 0; t < size; ++t) {
      threads_.emplace_back([this, t] { Serve(t); });
    }
  }
  ~ThreadTeam() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  unsigned size() const { return size_; }

  // Calls job(t) on every thread t and returns when all have returned. One
  // caller at a time.
  void Run(absl::FunctionRef<void(unsigned)> job) {
    std::unique_lock lock(mutex_);
    job_ = &job;
    unfinished_ = size_;
    ++round_;
    wake_.notify_all();
    done_.wait(lock, [this] { return unfinished_ == 0; });
    job_ = nullptr;
  }

  // From inside a job: returns when every thread of the team has called it, at
  // the same time for all that have a CPU.
  void Barrier() {
    const unsigned generation = generation_.load(std::memory_order_acquire);
    // acq_rel: the last to arrive has seen all that the others did before.
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
      arrived_.store(0, std::memory_order_relaxed);  // published by generation_
      generation_.store(generation + 1, std::memory_order_release);
      return;
    }
    // acquire: pairs with the release store above.
    SpinWait wait;
    while (generation_.load(std::memory_order_acquire) == generation) {
      wait.Spin();
    }
  }

 private:
  void Serve(unsigned t) {
    PinToCpu(t);
    std::uint64_t seen = 0;
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return stop_ || round_ != seen; });
      if (stop_) return;
      seen = round_;
      const absl::FunctionRef<void(unsigned)> job = *job_;
      lock.unlock();
      job(t);
      lock.lock();
      if (--unfinished_ == 0) done_.notify_one();
    }
  }

  const unsigned size_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  const absl::FunctionRef<void(unsigned)>* job_ = nullptr;
  unsigned unfinished_ = 0;
  std::uint64_t round_ = 0;
  bool stop_ = false;
  std::atomic<unsigned> arrived_{0};
  std::atomic<unsigned> generation_{0};
  std::vector<std::thread> threads_;
};

// Carries page numbers from one thread to one other. Indices are published once
// for each batch, so that an entry costs about 1 ns and the allocator at both
// ends is what one measures. Blocking: spins when full or empty.
class PageQueue {
 public:
  // Producer. Entries are seen after Flush() or with the next full batch.
  void Push(std::uint64_t page) {
    if (written_ - seen_head_ == kCapacity) WaitForSpace();
    slots_[written_++ % kCapacity] = page;
    if (written_ % kBatch == 0) Flush();
  }
  void Flush() {
    // release: the entries before the index; pairs with the acquire in Pop.
    tail_.store(written_, std::memory_order_release);
  }
  // Consumer.
  std::uint64_t Pop() {
    if (read_ == seen_tail_) WaitForEntry();
    const std::uint64_t page = slots_[read_++ % kCapacity];
    // release: the entry has been copied out; pairs with WaitForSpace.
    if (read_ % kBatch == 0) head_.store(read_, std::memory_order_release);
    return page;
  }

 private:
  static constexpr std::uint64_t kCapacity = 1024;
  static constexpr std::uint64_t kBatch = 32;

  void WaitForSpace() {
    Flush();
    SpinWait wait;
    // acquire: pairs with the release stores of head_.
    while (written_ - (seen_head_ = head_.load(std::memory_order_acquire)) >
           kCapacity - kBatch) {
      wait.Spin();
    }
  }
  void WaitForEntry() {
    head_.store(read_, std::memory_order_release);  // as in Pop
    SpinWait wait;
    // acquire: pairs with the release store in Flush.
    while (read_ == (seen_tail_ = tail_.load(std::memory_order_acquire))) {
      wait.Spin();
    }
  }

  // Two cache lines apart: the neighbour line is prefetched with a line.
  alignas(128) std::atomic<std::uint64_t> head_{0};
  alignas(128) std::atomic<std::uint64_t> tail_{0};
  alignas(128) std::uint64_t written_ = 0;  // producer's
  std::uint64_t seen_head_ = 0;
  alignas(128) std::uint64_t read_ = 0;  // consumer's
  std::uint64_t seen_tail_ = 0;
  alignas(128) std::array<std::uint64_t, kCapacity> slots_{};
};

// Bytes of this process in memory; 0 when the system does not say.
inline std::uint64_t ResidentBytes() {
  unsigned long long total = 0;
  unsigned long long resident = 0;
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(
      std::fopen("/proc/self/statm", "r"), std::fclose);
  if (file == nullptr ||
      std::fscanf(file.get(), "%llu %llu", &total, &resident) != 2) {
    return 0;
  }
  return resident * 4096;
}

}  // namespace dmamap::peers

#endif  // DMAMAP_BENCHMARKS_PEERS_MEASURE_H_
