// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "dma/absl.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <vector>

namespace dmamap {
namespace {

TEST(Absl, EveryErrorHasACode) {
  for (unsigned i = 1; i <= static_cast<unsigned>(Error::kBudget); ++i) {
    const auto error = static_cast<Error>(i);
    const absl::Status status = ToStatus(error);
    EXPECT_FALSE(status.ok());
    EXPECT_NE(status.code(), absl::StatusCode::kUnknown) << ToString(error);
    EXPECT_EQ(status.message(), ToString(error));
  }
}

TEST(Absl, ResultsBecomeStatuses) {
  EXPECT_TRUE(ToStatus(Ok()).ok());
  EXPECT_EQ(ToStatus(Result<void>(Error::kBusy)).code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(*ToStatusOr(Result<int>(5)), 5);
  EXPECT_EQ(ToStatusOr(Result<int>(Error::kNoSpace)).status().code(),
            absl::StatusCode::kResourceExhausted);
  auto moved =
      ToStatusOr(Result<std::unique_ptr<int>>(std::make_unique<int>(6)));
  EXPECT_EQ(**moved, 6);
}

TEST(Absl, MutexIsALock) {
  AbslMutexLock lock;
  {
    Guard guard(lock);
    EXPECT_FALSE(lock.try_lock());
  }
  EXPECT_TRUE(lock.try_lock());
  lock.unlock();
}

TEST(Absl, SpansConvert) {
  std::vector<int> v{1, 2, 3};
  const std::span<int> s = FromAbslSpan(absl::Span<int>(v));
  EXPECT_EQ(s.size(), 3u);
  EXPECT_EQ(ToAbslSpan(s)[2], 3);
}

}  // namespace
}  // namespace dmamap
