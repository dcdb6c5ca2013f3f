// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "iova/slot_table.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>

#include "dma/cpu.h"
#include "dma/result.h"

namespace dmamap {
namespace {

int alive = 0;
struct Counted {
  Counted() { ++alive; }
  ~Counted() { --alive; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
};

// Whatever Current() may return is found, before Init and after it.
TEST(SlotTable, TakesEveryNumberThatAPolicyMayName) {
  Counted vacant;
  SlotTable<Counted, 8, std::atomic> table(vacant);
  for (int round = 0; round < 2; ++round) {
    for (std::size_t n = 0; n < 8; ++n) EXPECT_EQ(&table[n], &vacant);
    EXPECT_EQ(&table[kNoSlot], &vacant);
    EXPECT_EQ(&table[kNoSlot - 1], &vacant);
    EXPECT_EQ(table.Init(3).ok(), round == 0);
  }
  EXPECT_EQ(table.size(), 9u);
}

template <std::size_t kReach>
void OwnsWhatIsSet() {
  {
    Counted vacant;
    SlotTable<Counted, kReach, std::atomic> table(vacant);
    EXPECT_EQ(table.size(), 0u);
    ASSERT_TRUE(table.Init(5).ok());
    EXPECT_EQ(table.Init(5).error(), Error::kBusy);
    ASSERT_GE(table.size(), 5u);
    const std::size_t last = table.size() - 1;
    Counted* const slots[] = {new Counted, new Counted};
    table.Set(0, *slots[0]);
    table.Set(last, *slots[1]);
    EXPECT_EQ(&table[0], slots[0]);
    EXPECT_EQ(&table[last], slots[1]);
    for (std::size_t n = 1; n < last; ++n) EXPECT_EQ(&table[n], &vacant);
    EXPECT_EQ(table.bytes(), kReach != 0 ? 0 : table.size() * sizeof(void*));
    EXPECT_EQ(alive, 3);
  }
  EXPECT_EQ(alive, 0);
}

TEST(SlotTable, OwnsWhatIsSet) {
  OwnsWhatIsSet<0>();
  OwnsWhatIsSet<8>();
}

}  // namespace
}  // namespace dmamap
