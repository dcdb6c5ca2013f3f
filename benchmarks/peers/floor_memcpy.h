// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_FLOOR_MEMCPY_H_
#define DMAMAP_BENCHMARKS_PEERS_FLOOR_MEMCPY_H_

// The floor of the copying workloads: memcpy to and from one bounce buffer a
// thread, as often as the guarantees of a bounce domain demand and not once
// more. To the device: in. From the device: in, so that a short write leaves
// the rest of the original alone, and out.
//
// Threads: each has a buffer of its own; one mapping at a time.

#include <array>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "benchmarks/peers/domain_subject.h"

namespace dmamap::peers {

class FloorMemcpy {
 public:
  static constexpr bool kMaps = false;
  using Handle = std::byte*;  // the original

  static absl::StatusOr<std::unique_ptr<FloorMemcpy>> Create(
      const DomainSpace&) {
    return std::make_unique<FloorMemcpy>();
  }
  absl::Status EnterThread(unsigned) { return absl::OkStatus(); }
  void LeaveThread(unsigned) {}

  bool Map(std::byte* buffer, std::size_t bytes, Direction, MapAttributes,
           Handle& original) {
    if (bytes > bounce_.size()) return false;
    original = buffer;
    std::memcpy(bounce_.data(), buffer, bytes);
    return true;
  }
  bool Unmap(Handle original, std::size_t bytes, Direction direction,
             MapAttributes) {
    if (DeviceWrites(direction)) std::memcpy(original, bounce_.data(), bytes);
    return true;
  }
  std::span<std::byte> DeviceBytes(Handle, std::size_t offset, Direction) {
    if (offset >= bounce_.size()) return {};
    return {bounce_.data() + offset, bounce_.size() - offset};
  }

 private:
  alignas(
      4096) static inline thread_local std::array<std::byte, 1 << 20> bounce_;
};

static_assert(DomainSubject<FloorMemcpy>);

}  // namespace dmamap::peers

#endif  // DMAMAP_BENCHMARKS_PEERS_FLOOR_MEMCPY_H_
