// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PLAYED_DEVICE_H_
#define DMAMAP_BENCHMARKS_PLAYED_DEVICE_H_

// The device's half of the replay of a .dma trace: reads and compares what the
// driver wrote, writes what the driver must find, and tries what must be
// refused.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "benchmarks/byte_check.h"
#include "benchmarks/replay_domain.h"
#include "benchmarks/trace.h"
#include "dma/address.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "testing/device_port.h"

namespace dmamap::bench {

// Single-threaded. All three arguments must outlive it.
template <DevicePort Port>
class PlayedDevice {
 public:
  PlayedDevice(Port& port, Pattern& pattern, TransferCounts& counts)
      : port_(port), pattern_(pattern), counts_(counts) {}

  void AfterMap(const Mapping& m, const CheckedBuffer& buffer) {
    if (DeviceReads(m.direction)) {
      ReadAll(m, buffer);
    } else {
      ExpectRefused(m.iova, Permission::kRead);
    }
    if (!DeviceWrites(m.direction)) ExpectRefused(m.iova, Permission::kWrite);
    const Iova behind = m.iova + m.size;
    if ((m.iova.value() & (kTracePage - 1)) != 0) ExpectHidden(m.iova - 1);
    if ((behind.value() & (kTracePage - 1)) != 0) ExpectHidden(behind);
  }

  // Three frames fill the buffer, the fourth is short.
  void BeforeUnmap(const Mapping& m, CheckedBuffer& buffer) {
    if (!DeviceWrites(m.direction)) return;
    const std::size_t size = buffer.data().size();
    const bool is_short = ++frames_ % 4 == 0;
    WritePart(m, buffer, 0, is_short ? 1 + frames_ % size : size);
  }

  void AfterUnmap(const Mapping& m) {
    ExpectRefused(m.iova, Permission::kRead);
    ExpectRefused(m.iova, Permission::kWrite);
  }

  // Compares all of a mapping with what the device must see.
  void ReadAll(const Mapping& m, const CheckedBuffer& buffer) {
    Expect(Read(m.iova, buffer.device().size()), buffer.device());
  }

  // Writes new bytes to a part of a mapping.
  void WritePart(const Mapping& m, CheckedBuffer& buffer, std::size_t offset,
                 std::size_t size) {
    if (Write(m.iova + offset, size)) buffer.DeviceWrote(offset, bytes_);
  }

  // Both sides write all of a new block and compare. Returns what it holds
  // then.
  std::vector<std::byte> UseBlock(const CoherentBlock& block) {
    const std::span<std::byte> cpu(block.cpu,
                                   static_cast<std::size_t>(block.size));
    Expect(cpu, std::vector<std::byte>(cpu.size()));  // zeroed
    pattern_.Fill(cpu);
    Expect(Read(block.iova, cpu.size()), cpu);
    Write(block.iova, cpu.size());
    Expect(cpu, bytes_);
    return bytes_;
  }

  void ExpectRefused(Iova at, Permission access) {
    const Transfer probe = access == Permission::kRead
                               ? port_.Read(at, probe_.data(), 1)
                               : port_.Write(at, probe_.data(), 1);
    if (probe.ok()) ++counts_.allowed;
  }

  // Compares bytes of either side.
  void Expect(std::span<const std::byte> got,
              std::span<const std::byte> expected) {
    counts_.wrong_bytes += CountWrong(got, expected);
    counts_.checked_bytes += got.size();
  }

 private:
  std::span<const std::byte> Read(Iova at, std::size_t size) {
    bytes_.resize(size);
    if (!port_.Read(at, bytes_.data(), size).ok()) {
      ++counts_.device_failures;
      // Nothing of an earlier access may pass for what was read now.
      std::fill(bytes_.begin(), bytes_.end(), std::byte{0});
    }
    return bytes_;
  }

  // Writes `size` new bytes, which are in bytes_ then.
  bool Write(Iova at, std::size_t size) {
    bytes_.resize(size);
    pattern_.Fill(bytes_);
    if (port_.Write(at, bytes_.data(), size).ok()) return true;
    ++counts_.device_failures;
    return false;
  }

  // A byte on a page of a mapping, beside it: refused, or zero.
  void ExpectHidden(Iova at) {
    if (port_.Read(at, probe_.data(), 1).ok() && probe_[0] != std::byte{0}) {
      ++counts_.foreign_bytes;
    }
  }

  Port& port_;
  Pattern& pattern_;
  TransferCounts& counts_;
  std::vector<std::byte> bytes_;  // read or written last
  std::array<std::byte, 8> probe_ = {};
  std::uint64_t frames_ = 0;  // written before an unmap
};

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_PLAYED_DEVICE_H_
