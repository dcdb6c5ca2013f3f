// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_FUZZ_FUZZ_TARGET_H_
#define DMAMAP_TESTING_FUZZ_FUZZ_TARGET_H_

// What a fuzz target is: this function, as libFuzzer calls it, and a name, that
// of its folder in corpus/.

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size);

namespace dmamap::inline v0::fuzz {

extern const char kTarget[];

}  // namespace dmamap::inline v0::fuzz

#endif  // DMAMAP_TESTING_FUZZ_FUZZ_TARGET_H_
