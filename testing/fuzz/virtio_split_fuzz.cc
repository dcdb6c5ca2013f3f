// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// A split virtio receive queue against a hostile device.

#include "nicring/virtio.h"
#include "testing/fuzz/hostile_virtio_rx.h"
#include "testing/hooked_access.h"

namespace dmamap::inline v0::fuzz {

const char kTarget[] = "virtio_split";

}  // namespace dmamap::inline v0::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  dmamap::fuzz::FuzzVirtio<
      dmamap::BasicVirtioSplitFormat<dmamap::testing_bench::HookedAccess>>(
      data, size);
  return 0;
}
