// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SCHED_FIBER_H_
#define DMAMAP_TESTING_SCHED_FIBER_H_

// A fiber: a stack of its own that runs a function until it switches away.
//
// The scheduler runs its threads as fibers of one real thread. A switch takes a
// few nanoseconds, where handing a baton between real threads takes
// microseconds, and nothing is left to the operating system, so that the same
// choices give the same execution.
//
// A Fiber is used again and again: Start gives it the next function once the
// last one has returned. On x86-64 the switch is a dozen instructions;
// elsewhere it is swapcontext (POSIX 2004), which also saves the signal mask.
// The address and the thread sanitizer are told of each switch. A stack ends in
// a page that cannot be touched: an overflow is a SIGSEGV.

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "dma/version.h"
#include "testing/sched/fiber_sanitizer.h"

#if !defined(__x86_64__) || defined(DMAMAP_SCHED_UCONTEXT)
#define DMAMAP_SCHED_USE_UCONTEXT 1
#include <ucontext.h>
#else
#define DMAMAP_SCHED_USE_UCONTEXT 0
// Saves what a called function must keep (System V psABI for x86-64, 3.2.1:
// rbx, rbp, r12-r15; the control words are left as they are), stores the stack
// pointer to *rdi, goes on at the stack pointer rsi. In a section group, so
// that all translation units of a program share one copy.
asm(R"(
.pushsection .text.dmamap_sched_switch,"axG",@progbits,dmamap_sched_switch,comdat
.weak dmamap_sched_switch
.type dmamap_sched_switch, @function
dmamap_sched_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size dmamap_sched_switch, .-dmamap_sched_switch
.popsection
)");
extern "C" void dmamap_sched_switch(void** save, void* load);
#endif

namespace dmamap::inline v0 {
namespace sched {

class Fiber {
 public:
  // The fiber that stands for the caller's own stack.
  Fiber() { sanitizer_.AdoptCurrent(); }

  // A fiber with its own stack of at least `bytes`. Ends the program when there
  // is no memory for it: a test cannot go on.
  explicit Fiber(std::size_t bytes) {
    bytes_ = bytes;
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    mapped_ = (bytes + page - 1) / page * page + page;
    void* memory = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE) != 0) {
      std::abort();
    }
    memory_ = static_cast<std::byte*>(memory);
    sanitizer_.Create(memory_ + page, mapped_ - page);
    Prepare(memory_ + page, mapped_ - page);
  }

  ~Fiber() {
    if (memory_ == nullptr) return;
    if (!finished_) {
      // Abandoned in the middle of a function: what lives on its stack may be
      // referred to from elsewhere, so the stack stays, and a leak checker
      // must look for pointers in it.
      sanitizer_.Abandon();
      return;
    }
    sanitizer_.Destroy();
    munmap(memory_, mapped_);
  }

  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // The function to run at the next switch to this fiber. It returns the fiber
  // to switch to in the end. REQUIRES: no function, or the last one returned.
  void Start(std::function<Fiber*()> run) {
    run_ = std::move(run);
    finished_ = false;
  }
  bool finished() const { return finished_; }
  std::size_t bytes() const { return bytes_; }

  // Leaves the running fiber, which is `*this`, for `to`. Returns when somebody
  // switches back.
  void SwitchTo(Fiber& to) {
    sanitizer_.Leave(to.sanitizer_);
    entering_ = &to;
#if DMAMAP_SCHED_USE_UCONTEXT
    swapcontext(&context_, &to.context_);
#else
    dmamap_sched_switch(&stack_pointer_, to.stack_pointer_);
#endif
    sanitizer_.Arrive();
  }

 private:
  // The bottom frame of a fiber's stack; never returns.
  static void Entry() { entering_->Loop(); }
  void Loop() {
    sanitizer_.Arrive();
    while (true) {
      Fiber* next = run_();
      run_ = nullptr;
      finished_ = true;
      SwitchTo(*next);
    }
  }

#if DMAMAP_SCHED_USE_UCONTEXT
  void Prepare(std::byte* stack, std::size_t bytes) {
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack;
    context_.uc_stack.ss_size = bytes;
    context_.uc_link = nullptr;
    makecontext(&context_, &Fiber::Entry, 0);
  }
  ucontext_t context_;
#else
  // A frame as dmamap_sched_switch leaves it. Its `ret` goes to Entry with the
  // stack pointer at a multiple of 16 plus 8, as after a call (psABI 3.2.2).
  void Prepare(std::byte* stack, std::size_t bytes) {
    auto* top = reinterpret_cast<void**>(stack + bytes);
    *--top = nullptr;  // a return address of 0: here an unwinder stops
    *--top = reinterpret_cast<void*>(&Fiber::Entry);
    for (int i = 0; i < 6; ++i) *--top = nullptr;  // rbp, rbx, r12 to r15
    stack_pointer_ = top;
  }
  void* stack_pointer_ = nullptr;
#endif

  static inline thread_local Fiber* entering_ = nullptr;

  std::byte* memory_ = nullptr;
  std::size_t bytes_ = 0;   // asked for
  std::size_t mapped_ = 0;  // with the guard page
  std::function<Fiber*()> run_;
  bool finished_ = true;
  FiberSanitizer sanitizer_;
};

// Fibers that wait for another use, by real thread. Small explorations are
// many, and to map a new stack takes longer than one of them.
class IdleFibers {
 public:
  // One with a stack of at least `bytes`.
  static std::unique_ptr<Fiber> Take(std::size_t bytes) {
    if (!idle_.empty() && idle_.back()->bytes() >= bytes) {
      std::unique_ptr<Fiber> fiber = std::move(idle_.back());
      idle_.pop_back();
      return fiber;
    }
    return std::make_unique<Fiber>(bytes);
  }
  // REQUIRES: its function has returned.
  static void Give(std::unique_ptr<Fiber> fiber) {
    if (idle_.size() < 16) idle_.push_back(std::move(fiber));
  }

 private:
  static inline thread_local std::vector<std::unique_ptr<Fiber>> idle_;
};

}  // namespace sched
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SCHED_FIBER_H_
