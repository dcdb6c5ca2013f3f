// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Intel's advanced one-buffer receive ring against a hostile device.

#include "nicring/intel_advanced.h"
#include "testing/fuzz/hostile_e1000_rx.h"
#include "testing/hooked_access.h"

namespace dmamap::inline v0::fuzz {

const char kTarget[] = "intel_advanced";

}  // namespace dmamap::inline v0::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  dmamap::fuzz::FuzzE1000<dmamap::BasicIntelAdvancedFormat<
      dmamap::testing_bench::HookedAccess, dmamap::intel_advanced::IgbErrors>>(
      data, size, dmamap::E1000Layout::kIgb);
  return 0;
}
