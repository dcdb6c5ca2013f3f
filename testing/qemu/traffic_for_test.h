// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_QEMU_TRAFFIC_FOR_TEST_H_
#define DMAMAP_TESTING_QEMU_TRAFFIC_FOR_TEST_H_

// Frames through one of QEMU's NICs, by nicring's rings over a Domain over the
// IOMMU, compared byte for byte with the far end of the wire. For one thread.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "domain/domain.h"
#include "nicring/napi.h"
#include "nicring/receiver.h"
#include "nicring/rx_ring.h"
#include "nicring/tx_ring.h"
#include "testing/qemu/frames_for_test.h"
#include "testing/qemu/guest_pool.h"
#include "testing/qemu/pci.h"
#include "testing/qemu/vtd_machine.h"
#include "testing/qemu/wire.h"

namespace dmamap::testing_qemu {

struct TrafficOptions {
  DomainMode mode = DomainMode::kDirect;
  FlushMode flush = FlushMode::kStrict;
  std::uint32_t entries = 64;
  std::uint32_t room = 1536;
  std::uint32_t max_frame = 1536;
  std::uint32_t offset = 0;    // of buffers in their page
  std::uint32_t segments = 1;  // of each frame sent
};

inline std::string NameOf(const TrafficOptions& o) {
  return std::string(ToString(o.mode)) +
         (o.flush == FlushMode::kStrict ? ", strict" : ", deferred");
}

// Kit: Nic(PciFunction*), RxFormat, TxFormat, kDevice, Device(): its arguments
// for QEMU; features(nic); Rx(nic), Tx(nic): ports; InterruptsOf(nic, ring): an
// InterruptsType<Rx>. Unmask(traffic), Mask(traffic): whether frames that come
// in interrupt. ExpectCounted(traffic): the device's own counters are ours.
template <class Kit>
class Traffic {
 public:
  using Nic = typename Kit::Nic;
  using Rx = RxRing<typename Kit::RxFormat, VtdMachineDomain, GuestPool>;
  using Tx = TxRing<typename Kit::TxFormat, VtdMachineDomain>;

  // Everything but the rings' Start. `started` says how it went.
  explicit Traffic(const TrafficOptions& options) : o(options) {
    started = Begin();
  }
  ~Traffic() {
    if (nic) rx.Shutdown(Kit::Rx(*nic));
    if (nic) tx.Shutdown(*this, Kit::Tx(*nic));
    if (stats.cpu != nullptr) (void)domain.FreeCoherent(stats).ok();
  }

  Result<void> StartRings() {
    Result<void> done = rx.Start(Kit::Rx(*nic));
    if (done.ok()) done = tx.Start(Kit::Tx(*nic));
    return done;
  }

  // Has frames [rx_next, rx_next + n) come in; at most `window` on their way.
  void Receive(std::uint32_t n, std::uint32_t window = 24) {
    ReceiveBy(n, window, [this] { Listen(); });
  }
  // The same without interrupts, `budget` frames at a time.
  void ReceivePolling(std::uint32_t n, std::size_t budget) {
    ReceiveBy(n, 24, [this, budget] {
      const std::size_t done = rx.Poll(budget, *this, Kit::Rx(*nic)).done;
      EXPECT_LE(done, budget);
      if (done == 0) std::this_thread::yield();
      ++(done == 0 ? idle_polls : done == budget ? full_polls : short_polls);
    });
  }
  // Looks for an interrupt, and lets the driver serve it.
  void Listen() {
    machine.qtest().Listen(std::chrono::milliseconds(2));
    if (!machine.qtest().IsRaised()) return;
    ++interrupts;
    if (!napi->Schedule()) return;
    while (napi->Poll(
               16,
               [this](std::size_t budget) {
                 return rx.Poll(budget, *this, Kit::Rx(*nic)).done;
               },
               [this] { return rx.HasWork(); }) == PollOutcome::kAgain) {
    }
  }
  bool Send(std::uint32_t n) { return wire.Send(ImixFrame(n, &room)); }

  // Sends n frames and finds them at the far end.
  void Transmit(std::uint32_t n) {
    const Stopwatch watch(&tx_seconds);
    const auto give_up = Clock::now() + std::chrono::seconds(60);
    const std::uint32_t end = tx_posted + n;
    while ((tx_seen < end || tx.frames() != 0) &&
           !::testing::Test::HasFailure()) {
      while (tx_posted < end && !tx_free.empty() && !tx.stopped()) {
        PostFrame(tx_posted++);
      }
      tx.Kick(Kit::Tx(*nic));
      DrainWire();
      (void)tx.Poll(64, *this, Kit::Tx(*nic));
      ASSERT_LT(Clock::now(), give_up) << tx_seen << " of " << end;
    }
  }
  void PostFrame(std::uint32_t n) {
    const std::uint32_t slot = tx_free.front();
    tx_free.pop_front();
    const auto frame = ImixFrame(n, &room);
    std::byte* const data = tx_memory + std::size_t{slot} * kTxSlot + 6;
    std::memcpy(data, frame.data(), frame.size());
    std::array<TxSegment, 3> segments;
    std::size_t at = 0;
    for (std::uint32_t i = 0; i < o.segments; ++i) {
      const std::size_t bytes =
          i + 1 == o.segments ? frame.size() - at : 17 + n % 13;
      segments[i] = {PhysAddrOf(data + at), static_cast<std::uint32_t>(bytes),
                     data + at};
      at += bytes;
    }
    const auto posted = tx.Post({std::span(segments).first(o.segments), slot});
    ASSERT_TRUE(posted.ok()) << ToString(posted.error());
  }
  void DrainWire() {
    std::array<std::byte, 2048> got;
    while (const std::size_t bytes = wire.Receive(got)) {
      const auto want = ImixFrame(tx_seen, &room);
      Compare(std::span(got).first(std::min(bytes, got.size())), want, tx_seen);
      ++tx_seen;
      tx_bytes += bytes;
    }
  }

  // Sink, ScatterSink, TxSink.
  BufferFate Deliver(const RxFrame& f) {
    Note(std::span(f.data, f.length));
    return BufferFate::kReturn;
  }
  BufferFate DeliverScattered(const RxScatteredFrame& f) {
    ++scattered;
    std::vector<std::byte> whole;
    for (const RxPart& part : f.parts) {
      whole.insert(whole.end(), part.data, part.data + part.length);
    }
    Note(whole);
    return BufferFate::kReturn;
  }
  void Done(const TxDone& done) {
    tx_free.push_back(static_cast<std::uint32_t>(done.token));
  }

  // No fault, nothing leaked, every figure in its place.
  void ExpectSound() {
    EXPECT_TRUE(machine.ok()) << machine.error();
    bool overflow = false;
    const auto faults = machine.TakeFaults(&overflow);
    EXPECT_TRUE(faults.empty() && !overflow);
    all_faults += faults.size();
    EXPECT_TRUE(rx.CheckInvariants());
    EXPECT_TRUE(tx.CheckInvariants());
    EXPECT_TRUE(domain.CheckInvariants());
    EXPECT_TRUE(domain.invalidation().CheckInvariants());
    EXPECT_EQ(pool.free_buffers() + rx.armed() + rx.held() + rx.refill().kept(),
              kBuffers);
    EXPECT_EQ(rx.statistics().rx_packets, delivered);
    EXPECT_EQ(machine.unit().counts().failures, 0u);
  }
  // A row of README's table.
  void PrintRow() const {
    std::printf(
        "| %s | %s | %u / %u | %llu / %llu | %.0f / %.0f | %zu | %u |\n",
        Kit::kDevice, NameOf(o).c_str(), delivered, tx_seen,
        static_cast<unsigned long long>(rx_bytes),
        static_cast<unsigned long long>(tx_bytes), delivered / rx_seconds,
        tx_seen / tx_seconds, all_faults, wrong);
  }

  static constexpr std::uint32_t kBuffers = 96;
  static constexpr std::uint32_t kTxSlots = 48;
  static constexpr std::size_t kTxSlot = 2048;

  TrafficOptions o;
  Wire wire;
  VtdMachine machine;
  Result<void> started;
  std::optional<PciFunction> function;
  std::optional<Nic> nic;
  GuestPool pool;
  VtdMachineDomain domain;
  CoherentBlock stats;
  Rx rx;
  Tx tx;
  using InterruptsType = typename Kit::template InterruptsType<Rx>;
  std::optional<InterruptsType> interrupt;
  std::optional<Napi<InterruptsType>> napi;
  std::uint32_t rx_next = 0;  // number of the next frame to come
  std::uint32_t delivered = 0;
  std::uint32_t scattered = 0;
  std::uint64_t rx_bytes = 0;
  std::uint32_t tx_posted = 0;
  std::uint32_t tx_seen = 0;
  std::uint64_t tx_bytes = 0;
  std::uint64_t interrupts = 0;
  std::uint64_t idle_polls = 0;  // ReceivePolling's: of no frame,
  std::uint64_t short_polls = 0;
  std::uint64_t full_polls = 0;  // of as many as they might
  std::size_t all_faults = 0;
  double rx_seconds = 0;
  double tx_seconds = 0;
  std::uint32_t wrong = 0;  // frames that are not what was sent
  bool expect_in_order = true;
  std::deque<std::uint32_t> tx_free;
  std::byte* tx_memory = nullptr;

 private:
  template <class Serve>
  void ReceiveBy(std::uint32_t n, std::uint32_t window, Serve&& serve) {
    const std::uint32_t end = rx_next + n;
    const Stopwatch watch(&rx_seconds);
    const auto give_up = Clock::now() + std::chrono::seconds(60);
    std::uint32_t sent = rx_next;
    while (rx_next < end && !::testing::Test::HasFailure()) {
      while (sent < end && sent - rx_next < window && Send(sent)) ++sent;
      serve();
      ASSERT_LT(Clock::now(), give_up) << rx_next << " of " << end << ", "
                                       << sent << " sent " << machine.error();
    }
  }
  Result<void> Begin() {
    auto done = wire.Open();
    if (!done.ok()) return done;
    std::vector<std::string> arguments = {"-netdev", wire.Netdev("net")};
    for (std::string& a : Kit::Device()) arguments.push_back(std::move(a));
    done = machine.Start(std::move(arguments), {wire.far_end()});
    if (!done.ok()) return done;
    wire.CloseFarEnd();
    function.emplace(&machine.machine(), 4);
    function->Enable();
    done = machine.Use(&domain, function->source());
    FlushQueueOptions flush;
    flush.mode = o.flush;
    // What the tests count is not how slow the machine is.
    flush.max_age = 60'000'000'000;
    if (done.ok()) done = domain.Init({.mode = o.mode, .flush = flush});
    if (!done.ok()) return done;
    nic.emplace(&*function);
    done = Kit::Setup(*nic);
    if (done.ok()) done = MakeRings();
    if (!done.ok()) return done;
    interrupt.emplace(Kit::InterruptsOf(*nic, rx));
    napi.emplace(&*interrupt);
    return StartRings();
  }
  Result<void> MakeRings() {
    RxRingOptions ring;
    ring.entries = o.entries;
    ring.room = o.room;
    ring.max_frame = o.max_frame;
    ring.features = Kit::Features(*nic);
    auto done = pool.Init(&machine.buffers(),
                          {kBuffers, o.room + Kit::kHeader, o.offset});
    if (done.ok()) done = rx.Init(&domain, &pool, ring);
    if (done.ok()) {
      done = tx.Init(&domain, {.entries = 64,
                               .max_segments = 3,
                               .features = ring.features,
                               .room = 1514});
    }
    const auto memory = machine.buffers().Allocate(
        PageSize(), kTxSlots * kTxSlot / PageSize().bytes());
    const auto block = domain.AllocateCoherent(4096);
    if (!memory.ok()) return memory.error();
    if (!block.ok()) return block.error();
    tx_memory = *memory;
    stats = *block;
    for (std::uint32_t i = 0; i < kTxSlots; ++i) tx_free.push_back(i);
    return done;
  }
  // A byte that a stale translation put elsewhere, or took from there, is seen
  // here.
  void Compare(std::span<const std::byte> got, std::span<const std::byte> want,
               std::uint32_t n) {
    const bool same =
        std::equal(got.begin(), got.end(), want.begin(), want.end());
    wrong += same ? 0 : 1;
    EXPECT_TRUE(same) << "frame " << n;
  }
  void Note(std::span<const std::byte> got) {
    std::uint32_t n = 0;
    ASSERT_GE(got.size(), 60u);
    std::memcpy(&n, got.data() + 14, sizeof n);
    if (expect_in_order) {
      ASSERT_EQ(n, rx_next);
    }
    Compare(got, ImixFrame(n, &room), n);
    rx_next = n + 1;
    ++delivered;
    rx_bytes += got.size();
  }

  std::vector<std::byte> room;
};

}  // namespace dmamap::testing_qemu

#endif  // DMAMAP_TESTING_QEMU_TRAFFIC_FOR_TEST_H_
