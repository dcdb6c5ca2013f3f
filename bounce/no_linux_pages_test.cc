// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// What the sources that need Linux do on another system: they compile, say so,
// and hand out nothing.

#define DMAMAP_NO_LINUX_PAGES
#include <gtest/gtest.h>

#include <cstddef>

#include "bounce/huge_pages.h"
#include "bounce/memfd_pages.h"
#include "dma/address.h"

namespace dmamap {
namespace {

static_assert(!SystemPageCalls::kSupported);

template <class Source>
class NoLinuxPages : public ::testing::Test {};
using Sources = ::testing::Types<HugePages, MemfdPages>;
TYPED_TEST_SUITE(NoLinuxPages, Sources);

TYPED_TEST(NoLinuxPages, InitSaysSo) {
  TypeParam pages;
  EXPECT_EQ(pages.Init().error(), Error::kUnsupported);
  EXPECT_EQ(pages.Allocate(PageSize(), 1).error(), Error::kShutDown);
  EXPECT_EQ(pages.Trim(), 0u);
  std::byte b[1];
  pages.Free(b, PageSize(), 1);
  EXPECT_EQ(pages.stats().bad_frees, 1u);
  EXPECT_TRUE(pages.CheckInvariants());
}

}  // namespace
}  // namespace dmamap
