// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The i8255x receive ring against a hostile device.

#include <cstddef>
#include <cstdint>

#include "nicring/i8255x.h"
#include "testing/fuzz/fuzz_target.h"
#include "testing/fuzz/hostile_rx.h"
#include "testing/hooked_access.h"
#include "testing/hostile_i8255x.h"

namespace dmamap::inline v0::fuzz {

const char kTarget[] = "i8255x";

}  // namespace dmamap::inline v0::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  using namespace dmamap;  // NOLINT: a program
  fuzz::ByteSource in(data, size);
  testing_bench::DriverOptions options;
  RxRingOptions& ring = options.ring;
  ring.entries = 3 + in.Below(10);
  ring.room = 64u << in.Below(4);
  ring.max_frame = in.Coin() ? ring.room : ring.room - 20;
  ring.length_policy = in.Coin() ? LengthPolicy::kClamp : LengthPolicy::kReject;
  options.buffers = ring.entries - 2 + in.Below(8);
  if (options.buffers < 3) options.buffers = 3;
  options.buffer_bytes = 16 + ring.room;
  fuzz::FuzzRx<BasicI8255xFormat<testing_bench::HookedAccess>>(
      in, options, [](auto& driver) {
        return HostileI8255x(&driver.world.port, driver.base);
      });
  return 0;
}
