// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DMA_RSEQ_FOR_TEST_H_
#define DMAMAP_DMA_RSEQ_FOR_TEST_H_

// For the tests of dma/rseq.h: CPUs to pin to, whether this kernel has
// restartable sequences, and the same tests again in a child process in which
// they are had in another way. Include it in one file of a test program.

#include <cstddef>
#include <vector>

#include "dma/version.h"

#if defined(__linux__)

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace dmamap::inline v0 {

#if !defined(SYS_rseq)
#define SYS_rseq (sizeof(void*) == 8 ? 334 : 386)
#endif

// The CPUs that this process may run on, ascending; not empty.
inline std::vector<std::size_t> AllowedCpus() {
  static const std::vector<std::size_t> cpus = [] {
    std::vector<std::size_t> found;
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
      for (std::size_t c = 0; c < CPU_SETSIZE; ++c) {
        if (CPU_ISSET(c, &set)) found.push_back(c);
      }
    }
    if (found.empty()) found.push_back(0);
    return found;
  }();
  return cpus;
}

// The calling thread, and threads that it starts, run on one CPU for a scope.
class PinnedTo {
 public:
  explicit PinnedTo(std::size_t cpu) {
    sched_getaffinity(0, sizeof(before_), &before_);
    Move(cpu);
  }
  ~PinnedTo() { sched_setaffinity(0, sizeof(before_), &before_); }
  PinnedTo(const PinnedTo&) = delete;
  PinnedTo& operator=(const PinnedTo&) = delete;

  void Move(std::size_t cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof(set), &set);
  }

 private:
  cpu_set_t before_;
};

// Asks the kernel, whatever libc and library do: a null area is an error of
// another kind than an unknown system call.
inline bool KernelHasRseq() {
  return syscall(SYS_rseq, nullptr, 0, 0, 0) != 0 && errno != ENOSYS;
}

// Whether the kernel has a struct rseq of the calling thread: it takes no
// second one.
inline bool ThreadIsRegistered() {
  alignas(32) unsigned area[8] = {0, ~0u};
#if defined(__x86_64__)
  constexpr unsigned kSignature = 0x53053053;
#else
  constexpr unsigned kSignature = 0xd428bc00;
#endif
  if (syscall(SYS_rseq, area, sizeof(area), 0, kSignature) != 0) {
    return errno != ENOSYS;
  }
  syscall(SYS_rseq, area, sizeof(area), 1, kSignature);  // take it back
  return false;
}

// Makes the rseq system call fail with ENOSYS from now on.
inline bool HideRseq() {
  const auto number = static_cast<__u32>(SYS_rseq);
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter = {4, program};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

// Runs this program's other tests again, in a process in which glibc has not
// registered its threads. "own": we do it. "none": nobody can. Returns its exit
// status, or -1.
inline int RunAgain(const char* expected) {
  setenv("DMAMAP_RSEQ_EXPECT", expected, 1);
  setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1);
  for (const char* name :
       {"XML_OUTPUT_FILE", "GTEST_OUTPUT", "TEST_TOTAL_SHARDS",
        "TEST_SHARD_INDEX", "TEST_SHARD_STATUS_FILE", "TESTBRIDGE_TEST_ONLY"}) {
    unsetenv(name);
  }
  char program[] = "/proc/self/exe";
  char filter[] = "--gtest_filter=-*InAChild*";
  char brief[] = "--gtest_brief=1";
  char* arguments[] = {program, filter, brief, nullptr};
  pid_t child = 0;
  int status = -1;
  std::fflush(nullptr);
  if (posix_spawn(&child, program, nullptr, nullptr, arguments, environ) != 0 ||
      waitpid(child, &status, 0) != child) {
    return -1;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// In the child, before main.
namespace {
[[maybe_unused]] const bool kHidden = [] {
  const char* expected = std::getenv("DMAMAP_RSEQ_EXPECT");
  if (expected == nullptr || std::strcmp(expected, "none") != 0) return false;
  if (!HideRseq()) {
    std::perror("cannot hide rseq");
    std::_Exit(1);
  }
  return true;
}();
}  // namespace

}  // namespace dmamap::inline v0

#else  // not Linux: nothing to pin, nothing to hide

namespace dmamap::inline v0 {

inline std::vector<std::size_t> AllowedCpus() { return {0}; }
struct PinnedTo {
  explicit PinnedTo(std::size_t) {}
  ~PinnedTo() {}
  void Move(std::size_t) {}
};
inline bool KernelHasRseq() { return false; }
inline bool ThreadIsRegistered() { return false; }

}  // namespace dmamap::inline v0

#endif

#endif  // DMAMAP_DMA_RSEQ_FOR_TEST_H_
