// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The transmit ring of each format against its hostile device.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "nicring/e1000_tx.h"
#include "nicring/i8255x_tx.h"
#include "nicring/virtio_tx.h"
#include "testing/fuzz/fuzz_target.h"
#include "testing/fuzz/hostile_tx.h"
#include "testing/hooked_access.h"
#include "testing/hostile_e1000.h"
#include "testing/hostile_i8255x_tx.h"
#include "testing/hostile_virtio.h"

namespace dmamap::inline v0::fuzz {

const char kTarget[] = "transmit";

namespace {

void FuzzE1000Tx(ByteSource& in, TxRingOptions options) {
  options.entries = 8 * (1 + in.Below(3));
  FuzzTx<BasicE1000TxFormat<testing_bench::HookedAccess>>(
      in, options,
      [](auto* port) { return HostileE1000(port, E1000Layout::kLegacy); });
}
void FuzzI8255xTx(ByteSource& in, TxRingOptions options) {
  options.entries = 2 + in.Below(12);
  options.max_segments = std::min(options.max_segments, options.entries - 1);
  options.room = 48;  // with its header a line
  FuzzTx<BasicI8255xTxFormat<testing_bench::HookedAccess>>(
      in, options, [](auto* port) { return HostileI8255xTx(port, 64); });
}
template <class Format>
void FuzzVirtioTx(ByteSource& in, TxRingOptions options) {
  constexpr bool kPacked = Format::kPackedTx;
  options.entries = kPacked ? 8 + in.Below(14) : 8u << in.Below(3);
  options.features = virtio::kVersion1 | (kPacked ? virtio::kRingPacked : 0) |
                     (in.Coin() ? virtio::kEventIndex : 0);
  FuzzTx<Format>(in, options, [](auto* port) {
    return HostileVirtio(
        port, kPacked ? VirtioLayout::kPacked : VirtioLayout::kSplit);
  });
}

}  // namespace
}  // namespace dmamap::inline v0::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  using namespace dmamap;  // NOLINT: a program
  fuzz::ByteSource in(data, size);
  const std::uint32_t format = in.Below(4);
  TxRingOptions options;
  options.max_segments = 1 + in.Below(4);
  switch (format) {
    case 0:
      fuzz::FuzzE1000Tx(in, options);
      break;
    case 1:
      fuzz::FuzzI8255xTx(in, options);
      break;
    case 2:
      fuzz::FuzzVirtioTx<BasicVirtioSplitTxFormat<testing_bench::HookedAccess>>(
          in, options);
      break;
    default:
      fuzz::FuzzVirtioTx<
          BasicVirtioPackedTxFormat<testing_bench::HookedAccess>>(in, options);
      break;
  }
  return 0;
}
