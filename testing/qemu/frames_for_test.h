// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_QEMU_FRAMES_FOR_TEST_H_
#define DMAMAP_TESTING_QEMU_FRAMES_FOR_TEST_H_

// What the tests of QEMU's devices have in common: whether there is a QEMU, the
// time, and the frames that go over the wire.

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "testing/qemu/machine.h"

namespace dmamap::testing_qemu {

using Clock = std::chrono::steady_clock;

// Skips the test where QEMU is missing; fails it where QEMU does not start.
#define DMAMAP_START_OR_SKIP(started, machine)  \
  if (QemuMachine::Program().empty()) {         \
    GTEST_SKIP() << QemuMachine::MissingText(); \
  }                                             \
  ASSERT_TRUE((started).ok()) << (machine).error()

// Adds the time that it lives to a sum.
class Stopwatch {
 public:
  explicit Stopwatch(double* seconds) : seconds_(seconds) {}
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() {
    *seconds_ += std::chrono::duration<double>(Clock::now() - begin_).count();
  }

 private:
  double* seconds_;
  Clock::time_point begin_ = Clock::now();
};

inline constexpr char kMac[] = "52:54:00:12:34:56";

// Frame number n of a mix in which of twelve seven have 60 bytes, four 590 and
// one 1514 (with their checksums 64, 594 and 1518). Every byte follows from n.
inline std::span<const std::byte> ImixFrame(std::uint32_t n,
                                            std::vector<std::byte>* room) {
  const std::uint32_t k = n * 5 % 12;
  room->resize(k < 7 ? 60 : k < 11 ? 590 : 1514);
  const std::array<unsigned char, 14> head = {
      0x52, 0x54, 0, 0x12, 0x34, 0x56, 2, 0, 0, 0, 0, 1, 0x88, 0xb5};
  std::memcpy(room->data(), head.data(), head.size());
  std::memcpy(room->data() + 14, &n, sizeof n);
  for (std::size_t i = 18; i < room->size(); ++i) {
    (*room)[i] = static_cast<std::byte>(n * 7 + i * 3 + i / 251);
  }
  return *room;
}

}  // namespace dmamap::testing_qemu

#endif  // DMAMAP_TESTING_QEMU_FRAMES_FOR_TEST_H_
