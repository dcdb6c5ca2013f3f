// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_FUZZ_TALLY_H_
#define DMAMAP_TESTING_FUZZ_TALLY_H_

// What happened in all runs of the process: a replay is worth little if nothing
// gets through, or nothing goes wrong.

#include <cstdint>

#include "dma/version.h"

namespace dmamap::inline v0 {
namespace fuzz {

struct Tally {
  std::uint64_t runs = 0;
  std::uint64_t packets = 0;
  std::uint64_t dropped = 0;     // received and dropped; not sent
  std::uint64_t violations = 0;  // lengths that cannot be; broken queues
  std::uint64_t resets = 0;
};
inline Tally g_tally;

}  // namespace fuzz
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_FUZZ_TALLY_H_
