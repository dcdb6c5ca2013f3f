// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// RseqSlots without memory for its owner words. This program replaces the
// nothrow operator new[] that they come from.

#include <gtest/gtest.h>

#include <cstddef>
#include <new>

#include "dma/cpu.h"
#include "dma/rseq.h"

namespace {
bool g_out_of_memory = false;
int g_refused = 0;
}  // namespace

void* operator new[](std::size_t size, std::align_val_t alignment,
                     const std::nothrow_t&) noexcept {
  if (g_out_of_memory) {
    ++g_refused;
    return nullptr;
  }
  return ::operator new[](size, alignment);
}

namespace dmamap {
namespace {

TEST(RseqMemory, WithoutMemoryTheSlotsAreThreads) {
  const bool by_cpu = RseqSlots().kind() != SlotKind::kThread;
  g_out_of_memory = true;
  RseqSlots cpu;
  g_out_of_memory = false;
  EXPECT_EQ(g_refused, by_cpu ? 1 : 0);
  EXPECT_EQ(cpu.kind(), SlotKind::kThread);
  EXPECT_TRUE(cpu.CheckInvariants());
  const std::size_t slot = cpu.Acquire();
  EXPECT_EQ(slot, ThreadSlots().Acquire());
  cpu.Release(slot);
}

}  // namespace
}  // namespace dmamap
