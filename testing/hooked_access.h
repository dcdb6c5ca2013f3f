// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_HOOKED_ACCESS_H_
#define DMAMAP_TESTING_HOOKED_ACCESS_H_

// HookedAccess: the Access of a format (nicring/format.h) that lets a test act
// before each word that the driver shares with the device: where both see one
// memory, the device runs in the middle of the driver's calls. For one thread.

#include <cstddef>
#include <cstdint>
#include <functional>

#include "dma/version.h"
#include "nicring/format.h"

namespace dmamap::inline v0 {
namespace testing_bench {

inline std::function<void()> g_hook;
inline void Hook() {
  if (g_hook) g_hook();
}

struct HookedAccess {
  static std::uint16_t Load16(const std::byte* p) {
    Hook();
    return DeviceAccess::Load16(p);
  }
  static std::uint32_t Load32(const std::byte* p) {
    Hook();
    return DeviceAccess::Load32(p);
  }
  static void Store16(std::byte* p, std::uint16_t value) {
    Hook();
    DeviceAccess::Store16(p, value);
  }
};

}  // namespace testing_bench
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_HOOKED_ACCESS_H_
