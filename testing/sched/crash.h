// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SCHED_CRASH_H_
#define DMAMAP_TESTING_SCHED_CRASH_H_

// CrashReport: when the code under test crashes, says how to replay it.
//
// A failed DMAMAP_ASSERT traps, a wild pointer is a SIGSEGV: the process ends
// and no Report is returned. While a CrashReport lives, such a signal first
// writes the replay string of the execution to stderr; then it goes where it
// would have gone (a sanitizer's handler, the default action).

#include <signal.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "dma/version.h"
#include "testing/sched/choices.h"
#include "testing/sched/fiber_sanitizer.h"

namespace dmamap::inline v0 {
namespace sched {

class CrashReport {
 public:
  // `name` and `choices` are those of the executions while it lives.
  CrashReport(const char* name, const Choices& choices) : outer_(current_) {
    name_ = name;
    choices_ = &choices;
    // The stack of a fiber may be what has overflowed. A stack that is already
    // set (a sanitizer's) stays.
    stack_t old = {};
    sigaltstack(nullptr, &old);
    if ((old.ss_flags & SS_DISABLE) != 0) {
      alternate_ = std::malloc(kStackBytes);
      stack_t mine = {};
      mine.ss_sp = alternate_;
      mine.ss_size = kStackBytes;
      sigaltstack(&mine, nullptr);
    }
    struct sigaction action = {};
    action.sa_handler = &CrashReport::Handle;
    action.sa_flags = SA_ONSTACK | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    for (std::size_t i = 0; i < kSignals.size(); ++i) {
      sigaction(kSignals[i], &action, &before_[i]);
    }
    current_ = this;
#if DMAMAP_SCHED_ASAN
    __sanitizer_set_death_callback(&CrashReport::Tell);
#endif
  }
  ~CrashReport() {
#if DMAMAP_SCHED_ASAN
    __sanitizer_set_death_callback(nullptr);
#endif
    Restore();
    if (alternate_ != nullptr) {
      stack_t none = {};
      none.ss_flags = SS_DISABLE;
      sigaltstack(&none, nullptr);
      std::free(alternate_);
    }
    current_ = outer_;
  }
  CrashReport(const CrashReport&) = delete;
  CrashReport& operator=(const CrashReport&) = delete;

 private:
  static constexpr std::size_t kStackBytes = std::size_t{64} << 10;
  static constexpr std::array<int, 6> kSignals = {SIGSEGV, SIGBUS, SIGILL,
                                                  SIGTRAP, SIGFPE, SIGABRT};

  void Restore() const {
    for (std::size_t i = 0; i < kSignals.size(); ++i) {
      sigaction(kSignals[i], &before_[i], nullptr);
    }
  }

  static void Put(const char* text) {
    [[maybe_unused]] const auto n = write(2, text, std::strlen(text));
  }

  // On return the faulting instruction runs again, under the old handler; a
  // signal that was sent is sent again.
  static void Handle(int signal) {
    current_->Restore();
    Tell();
    if (signal == SIGABRT || signal == SIGTRAP) raise(signal);
  }

  static void Tell() {
    const CrashReport& self = *current_;
    Put("\nsched: crash; replay with DMAMAP_SCHED_REPLAY='");
    Put(self.name_);
    Put("@");
    self.choices_->Write(&CrashReport::Put);
    Put("'\n");
  }

  static inline thread_local CrashReport* current_ = nullptr;

  CrashReport* const outer_;
  const char* name_;
  const Choices* choices_;
  void* alternate_ = nullptr;
  std::array<struct sigaction, 6> before_ = {};
};

}  // namespace sched
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SCHED_CRASH_H_
