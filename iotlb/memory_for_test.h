// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_MEMORY_FOR_TEST_H_
#define DMAMAP_IOTLB_MEMORY_FOR_TEST_H_

// A NodeMemory that counts and that refuses when a test says so.

#include <cstddef>

#include "iotlb/node_pool.h"

namespace dmamap::inline v0 {

class FailingMemory {
 public:
  struct State {
    std::size_t calls = 0;
    std::size_t fail_at = ~std::size_t{0};  // number of the call that fails
    std::size_t bytes_held = 0;
  };

  explicit FailingMemory(State *state) : state_(state) {}

  void *Allocate(std::size_t bytes, std::size_t alignment) {
    if (state_->calls++ == state_->fail_at) return nullptr;
    state_->bytes_held += bytes;
    return HeapMemory().Allocate(bytes, alignment);
  }
  void Free(void *block, std::size_t bytes, std::size_t alignment) {
    state_->bytes_held -= bytes;
    HeapMemory().Free(block, bytes, alignment);
  }

 private:
  State *state_;
};
static_assert(NodeMemory<FailingMemory>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_MEMORY_FOR_TEST_H_
