// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// A receive driver for the Intel 8255x; docs/nicring.md goes through it. The
// NIC is a simulated one, and the driver is all that a real one would need.

#include <array>
#include <cstdio>
#include <cstring>

#include "domain/domain.h"
#include "nicring/i8255x.h"
#include "nicring/interrupts.h"
#include "nicring/napi.h"
#include "nicring/rx_ring.h"
#include "testing/domain_port.h"
#include "testing/sim_i8255x.h"

using namespace dmamap;  // NOLINT: an example

template <class Nic>
class Driver {
 public:
  Driver(Domain<>* domain, Nic* nic) : domain_(domain), nic_(nic) {}
  ~Driver() { ring_.Shutdown(*nic_); }  // the device first, then the memory

  Result<void> Start() {
    Result<void> done = pool_.Init({.buffers = 80, .buffer_bytes = 1552});
    if (done.ok()) {
      done = ring_.Init(domain_, &pool_, {.entries = 64, .room = 1536});
    }
    return done.ok() ? ring_.Start(*nic_) : done;
  }

  // The interrupt handler. True: run Poll soon, on any CPU.
  bool Interrupt() { return napi_.Schedule(); }  // acknowledges, and masks

  // Until kIdle: then interrupts are on, and no frame was missed.
  PollOutcome Poll() {
    return napi_.Poll(
        16, [this](std::size_t n) { return ring_.Poll(n, *this, *nic_).done; },
        [this] { return ring_.HasWork(); });
  }

  // The Sink: a whole frame, checked, which the device cannot reach any more.
  BufferFate Deliver(const RxFrame& frame) {
    ++frames_;
    bytes_ += frame.length;
    return BufferFate::kReturn;
  }

  const RxStatistics& statistics() const { return ring_.statistics(); }
  std::size_t frames() const { return frames_; }
  std::size_t bytes() const { return bytes_; }

 private:
  Domain<>* domain_;
  Nic* nic_;
  FixedPool pool_;
  using Ring = RxRing<I8255xFormat, Domain<>, FixedPool>;
  Ring ring_;
  I8255xInterrupts<Nic, Ring> interrupts_{nic_, &ring_};
  Napi<I8255xInterrupts<Nic, Ring>> napi_{&interrupts_};
  std::size_t frames_ = 0;
  std::size_t bytes_ = 0;
};

int main() {
  Domain<> domain;  // the NIC reaches memory through it only
  if (!domain.Init({.limit = Iova(0xffff'ffff), .bounce_size = 64 << 20}).ok())
    return 1;
  DomainPort port(domain);
  SimI8255x nic(&port, SimI8255xOptions{});
  Driver driver(&domain, &nic);
  if (!driver.Start().ok()) return 1;

  std::array<std::byte, 1514> frame{};
  for (int i = 0; i < 1000; ++i) {
    // Bursts of 1 to 100 frames: the long ones run the ring dry.
    for (int n = i % 100; n >= 0; --n) nic.Receive(frame);
    if (!nic.InterruptLine() || !driver.Interrupt()) continue;
    while (driver.Poll() == PollOutcome::kAgain) {
    }
  }
  const RxStatistics& s = driver.statistics();
  std::printf(
      "%zu frames, %zu bytes, %llu lost, %llu restarts\n", driver.frames(),
      driver.bytes(),
      static_cast<unsigned long long>(nic.counters().rx_resource_errors),
      static_cast<unsigned long long>(s.restarts));
  return driver.frames() == nic.counters().rx_good && s.restarts != 0 ? 0 : 1;
}
