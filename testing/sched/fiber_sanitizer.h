// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SCHED_FIBER_SANITIZER_H_
#define DMAMAP_TESTING_SCHED_FIBER_SANITIZER_H_

// Tells the address and the thread sanitizer which stack a fiber runs on
// (sanitizer/common_interface_defs.h, sanitizer/tsan_interface.h). Without a
// sanitizer every function is empty.

#include <cstddef>

#include "dma/version.h"

#if defined(__has_feature)
#define DMAMAP_SCHED_HAS_FEATURE(x) __has_feature(x)
#else
#define DMAMAP_SCHED_HAS_FEATURE(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || DMAMAP_SCHED_HAS_FEATURE(address_sanitizer)
#define DMAMAP_SCHED_ASAN 1
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#else
#define DMAMAP_SCHED_ASAN 0
#endif
#if defined(__SANITIZE_THREAD__) || DMAMAP_SCHED_HAS_FEATURE(thread_sanitizer)
#define DMAMAP_SCHED_TSAN 1
#include <sanitizer/tsan_interface.h>
#else
#define DMAMAP_SCHED_TSAN 0
#endif

namespace dmamap::inline v0 {
namespace sched {

class FiberSanitizer {
 public:
#if DMAMAP_SCHED_ASAN
  // The bounds of a stack that we did not make are learned at the first switch.
  void AdoptCurrent() {}
  void Create(void* stack, std::size_t bytes) {
    stack_ = stack;
    bytes_ = bytes;
  }
  void Destroy() { __asan_unpoison_memory_region(stack_, bytes_); }
  void Abandon() { __lsan_register_root_region(stack_, bytes_); }
  void Leave(FiberSanitizer& to) {
    leaving_ = this;
    __sanitizer_start_switch_fiber(&fake_stack_, to.stack_, to.bytes_);
  }
  void Arrive() {
    const void* stack = nullptr;
    std::size_t bytes = 0;
    __sanitizer_finish_switch_fiber(fake_stack_, &stack, &bytes);
    if (leaving_->stack_ == nullptr) {
      leaving_->stack_ = stack;
      leaving_->bytes_ = bytes;
    }
  }

 private:
  static inline thread_local FiberSanitizer* leaving_ = nullptr;
  const void* stack_ = nullptr;
  std::size_t bytes_ = 0;
  void* fake_stack_ = nullptr;
#elif DMAMAP_SCHED_TSAN
  void AdoptCurrent() { fiber_ = __tsan_get_current_fiber(); }
  void Create(void*, std::size_t) { fiber_ = __tsan_create_fiber(0); }
  void Destroy() { __tsan_destroy_fiber(fiber_); }
  void Abandon() {}
  void Leave(FiberSanitizer& to) { __tsan_switch_to_fiber(to.fiber_, 0); }
  void Arrive() {}

 private:
  void* fiber_ = nullptr;
#else
  void AdoptCurrent() {}
  void Create(void*, std::size_t) {}
  void Destroy() {}
  void Abandon() {}
  void Leave(FiberSanitizer&) {}
  void Arrive() {}
#endif
};

}  // namespace sched
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SCHED_FIBER_SANITIZER_H_
