// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The e1000's legacy receive ring against a hostile device.

#include "nicring/e1000.h"
#include "testing/fuzz/hostile_e1000_rx.h"
#include "testing/hooked_access.h"

namespace dmamap::inline v0::fuzz {

const char kTarget[] = "e1000";

}  // namespace dmamap::inline v0::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  dmamap::fuzz::FuzzE1000<
      dmamap::BasicE1000Format<dmamap::testing_bench::HookedAccess>>(
      data, size, dmamap::E1000Layout::kLegacy);
  return 0;
}
