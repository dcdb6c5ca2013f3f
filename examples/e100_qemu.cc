// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// A receive driver for the Intel 8255x, on QEMU's model of the NIC and behind
// QEMU's model of the IOMMU: no guest, no KVM, no root.
//
//   bazel run //examples:e100_qemu            (Debian: qemu-system-x86)
//
// The driver is receive_driver.cc's; what is new is where memory comes from:
// the NIC reaches pages of the machine, through page tables, and nothing else.

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstring>

#include "domain/domain.h"
#include "nicring/interrupts.h"
#include "nicring/napi.h"
#include "nicring/rx_ring.h"
#include "testing/qemu/e100.h"
#include "testing/qemu/guest_pool.h"
#include "testing/qemu/pci.h"
#include "testing/qemu/vtd_machine.h"
#include "testing/qemu/wire.h"

using namespace dmamap;  // NOLINT: an example

// What comes in, again and again.
const std::array<std::byte, 1514> kFrame = [] {
  std::array<std::byte, 1514> frame;
  const unsigned char to[] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
  for (std::size_t i = 0; i < frame.size(); ++i) {
    frame[i] = static_cast<std::byte>(i < sizeof to ? to[i] : i * 7 + i / 251);
  }
  return frame;
}();

class Driver {
 public:
  Driver(VtdMachineDomain* domain, QemuE100* nic)
      : domain_(domain), nic_(nic) {}
  ~Driver() { ring_.Shutdown(*nic_); }  // the device first, then the memory

  // Each buffer begins 64 bytes before the end of a page: of what arrives, the
  // descriptor and 48 bytes are on a page that the NIC sees instead, the rest
  // the NIC writes to the buffer itself.
  Result<void> Start(UserPages* memory) {
    Result<void> done = pool_.Init(
        memory, {.buffers = 80, .buffer_bytes = 4160, .offset = 4032});
    if (done.ok()) {
      done = ring_.Init(domain_, &pool_,
                        {.entries = 64, .room = 4144, .max_frame = 1514});
    }
    if (done.ok()) done = ring_.Start(*nic_);
    if (done.ok()) nic_->Unmask();
    return done;
  }

  void Interrupt() {
    if (!napi_.Schedule()) return;
    while (
        napi_.Poll(
            16,
            [this](std::size_t n) { return ring_.Poll(n, *this, *nic_).done; },
            [this] { return ring_.HasWork(); }) == PollOutcome::kAgain) {
    }
  }

  // The Sink: a whole frame, which the device cannot reach any more.
  BufferFate Deliver(const RxFrame& frame) {
    ++frames_;
    bytes_ += frame.length;
    if (frame.length != kFrame.size() ||
        std::memcmp(frame.data, kFrame.data(), frame.length) != 0) {
      ++wrong_;
    }
    return BufferFate::kReturn;
  }

  std::size_t frames() const { return frames_; }
  std::size_t bytes() const { return bytes_; }
  std::size_t wrong() const { return wrong_; }

 private:
  VtdMachineDomain* domain_;
  QemuE100* nic_;
  GuestPool pool_;
  using Ring = RxRing<QemuE100Format, VtdMachineDomain, GuestPool>;
  Ring ring_;
  I8255xInterrupts<QemuE100, Ring> interrupts_{nic_, &ring_};
  Napi<I8255xInterrupts<QemuE100, Ring>> napi_{&interrupts_};
  std::size_t frames_ = 0;
  std::size_t bytes_ = 0;
  std::size_t wrong_ = 0;
};

int main() {
  if (QemuMachine::Program().empty()) {
    std::printf("%s\n", QemuMachine::MissingText());
    return 1;
  }
  Wire wire;
  VtdMachine machine;
  if (!wire.Open().ok() ||
      !machine
           .Start({"-netdev", wire.Netdev("net"), "-device",
                   "i82559er,netdev=net,addr=4,mac=52:54:00:12:34:56"},
                  {wire.far_end()})
           .ok()) {
    std::printf("%s\n", machine.error().c_str());
    return 1;
  }
  QemuE100Access::qtest = &machine.qtest();
  PciFunction function(&machine.machine(), 4);
  function.Enable();
  QemuE100 nic(&function);

  VtdMachineDomain domain;  // from here on, the NIC reaches what is mapped here
  if (!machine.Use(&domain, function.source()).ok() ||
      !domain.Init({.mode = DomainMode::kUnalignedEnds}).ok()) {
    return 1;
  }
  Driver driver(&domain, &nic);
  if (!driver.Start(&machine.buffers()).ok()) return 1;

  constexpr std::size_t kFrames = 5000;
  const auto begin = std::chrono::steady_clock::now();
  const auto seconds = [&] {
    const std::chrono::duration<double> passed =
        std::chrono::steady_clock::now() - begin;
    return passed.count();
  };
  for (std::size_t sent = 0; driver.frames() < kFrames && seconds() < 60;) {
    while (sent < kFrames && sent - driver.frames() < 32 && wire.Send(kFrame)) {
      ++sent;
    }
    machine.qtest().Listen(std::chrono::milliseconds(5));
    if (machine.qtest().IsRaised()) driver.Interrupt();
  }
  const std::size_t faults = machine.TakeFaults().size();
  std::printf(
      "%zu frames, %zu bytes, %zu wrong, %zu faults, %.0f frames a second\n",
      driver.frames(), driver.bytes(), driver.wrong(), faults,
      static_cast<double>(driver.frames()) / seconds());
  const bool good = driver.wrong() == 0 && faults == 0;
  return driver.frames() == kFrames && good ? 0 : 1;
}
