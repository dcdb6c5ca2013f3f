// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// QEMU's e1000 and virtio-net (split and packed queues) behind QEMU's VT-d,
// driven by nicring, domain/ and iommu/.

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "domain/domain.h"
#include "nicring/e1000.h"
#include "nicring/e1000_tx.h"
#include "nicring/interrupts.h"
#include "nicring/virtio.h"
#include "nicring/virtio_tx.h"
#include "testing/qemu/e1000.h"
#include "testing/qemu/traffic_cases_for_test.h"
#include "testing/qemu/traffic_for_test.h"
#include "testing/qemu/virtio_net.h"

namespace dmamap::testing_qemu {
namespace {

struct NoScope {
  explicit NoScope(VtdMachine&) {}
};

struct E1000 {
  using Scope = NoScope;
  using Nic = QemuE1000;
  using RxFormat = E1000Format;
  using TxFormat = E1000TxFormat;
  template <class Rx>
  using InterruptsType = IntelInterrupts<Nic>;
  static constexpr char kDevice[] = "e1000";
  static constexpr bool kMapsWhatItSends = true;
  static constexpr std::uint32_t kHeader = 0;
  static std::vector<std::string> Device() {
    return {"-device", std::string("e1000,netdev=net,addr=4,mac=") + kMac};
  }
  static Result<void> Setup(Nic&) { return Ok(); }
  static std::uint64_t Features(Nic&) { return 0; }
  static auto& Rx(Nic& nic) { return nic.receiver(); }
  static auto& Tx(Nic& nic) { return nic.transmitter(); }
  template <class Ring>
  static InterruptsType<Ring> InterruptsOf(Nic& nic, Ring&) {
    return {&nic, Nic::kReceiveCauses};
  }
  template <class T>
  static void Unmask(T& t) {
    t.interrupt->Unmask();
  }
  template <class T>
  static void Mask(T& t) {
    t.interrupt->Mask();
  }
  template <class T>
  static void ExpectCounted(T& t) {
    EXPECT_EQ(t.nic->GoodReceived(), t.delivered);
    EXPECT_EQ(t.nic->GoodSent(), t.tx_seen);
    EXPECT_EQ(t.nic->Missed(), 0u);
  }
};

template <bool kPacked>
struct Virtio {
  using Scope = NoScope;
  using Nic = QemuVirtioNet;
  using RxFormat =
      std::conditional_t<kPacked, VirtioPackedFormat, VirtioSplitFormat>;
  using TxFormat =
      std::conditional_t<kPacked, VirtioPackedTxFormat, VirtioSplitTxFormat>;
  template <class Rx>
  using InterruptsType = VirtioLine<Rx, Nic>;
  static constexpr const char* kDevice =
      kPacked ? "virtio-net, packed" : "virtio-net, split";
  static constexpr bool kMapsWhatItSends = true;
  static constexpr std::uint32_t kHeader = virtio::kNetHeaderBytes;
  static std::vector<std::string> Device() {
    return {"-device",
            std::string("virtio-net-pci,netdev=net,addr=4,vectors=0,"
                        "disable-legacy=on,iommu_platform=on,packed=") +
                (kPacked ? "on" : "off") + ",mac=" + kMac};
  }
  static Result<void> Setup(Nic& nic) {
    return nic.Negotiate(virtio::kMergeableBuffers |
                         (kPacked ? virtio::kRingPacked : 0));
  }
  static std::uint64_t Features(Nic& nic) { return nic.features(); }
  static auto& Rx(Nic& nic) { return nic.receiver(); }
  static auto& Tx(Nic& nic) { return nic.transmitter(); }
  template <class Ring>
  static InterruptsType<Ring> InterruptsOf(Nic& nic, Ring& ring) {
    return {&ring, &nic};
  }
  template <class T>
  static void Unmask(T& t) {
    t.tx.Mask();  // its completions are found by polling
    t.rx.Unmask();
  }
  template <class T>
  static void Mask(T& t) {
    t.tx.Mask();
    t.rx.Mask();
  }
  // It has no counters.
  template <class T>
  static void ExpectCounted(T& t) {
    EXPECT_FALSE(t.nic->NeedsReset());
  }
};

// Frames for a ring that nobody polls wait, or are lost and counted; a ring
// that is shut down in the middle leaks nothing, and begins anew.
template <class Kit>
void OverrunAndReset(const TrafficOptions& options) {
  Traffic<Kit> t(options);
  DMAMAP_START_OR_SKIP(t.started, t.machine);
  t.expect_in_order = false;
  const auto missed = [&]() -> std::uint32_t {
    if constexpr (std::is_same_v<Kit, E1000>) return t.nic->Missed();
    return 0;
  };
  // Until n frames more have come, or are known to be lost; or for 5 seconds.
  const auto listen = [&](std::uint32_t n, std::uint32_t* lost) {
    const std::uint32_t before = t.delivered;
    const std::uint32_t missed_before = missed();
    const auto give_up = Clock::now() + std::chrono::seconds(5);
    do {
      t.Listen();
      *lost = missed() - missed_before;
    } while (t.delivered - before + *lost < n && Clock::now() < give_up);
    EXPECT_EQ(t.delivered - before + *lost, n);
    EXPECT_GT(t.delivered, before);
  };
  std::uint32_t all_lost = 0;
  for (std::uint32_t round = 0; round < 3; ++round) {
    Kit::Unmask(t);
    for (std::uint32_t n = 0; n < 200;) {
      if (t.Send(t.rx_next + 1000 + n)) ++n;
      t.machine.qtest().Look();
    }
    // The ring is full, or frames wait for the second after a start.
    std::uint32_t lost = 0;
    listen(200, &lost);
    all_lost += lost;
    // It goes on, losing nothing.
    t.expect_in_order = true;
    t.Receive(100);
    t.expect_in_order = false;
    t.Transmit(20);
    std::uint32_t on_wire = 0;
    for (std::uint32_t n = 0; n < 20; ++n) on_wire += t.Send(n) ? 1 : 0;
    EXPECT_GT(on_wire, 0u);
    for (std::uint32_t n = 0; n < 8; ++n) t.PostFrame(t.tx_posted++);
    t.rx.Shutdown(Kit::Rx(*t.nic));
    t.tx.Shutdown(t, Kit::Tx(*t.nic));
    ASSERT_FALSE(::testing::Test::HasFailure());
    EXPECT_EQ(t.pool.free_buffers(), Traffic<Kit>::kBuffers);
    EXPECT_EQ(t.tx_free.size(), Traffic<Kit>::kTxSlots);
    EXPECT_EQ(t.tx.statistics().tx_cancelled, 8u * (round + 1));
    t.ExpectSound();
    t.tx_posted = t.tx_seen;
    ASSERT_TRUE(Kit::Setup(*t.nic).ok());
    ASSERT_TRUE(t.StartRings().ok());
    // What waited on the wire comes now, if the NIC had not taken it.
    Kit::Unmask(t);
    const auto quiet =
        Clock::now() +
        std::chrono::milliseconds(std::is_same_v<Kit, E1000> ? 1500 : 100);
    while (Clock::now() < quiet) t.Listen();
  }
  if constexpr (std::is_same_v<Kit, E1000>) {
    EXPECT_GT(all_lost, 0u);
  }
  t.expect_in_order = true;
  t.Receive(300);
  t.Transmit(200);
  t.ExpectSound();
}

class QemuE1000InEachMode : public ::testing::TestWithParam<TrafficOptions> {};
TEST_P(QemuE1000InEachMode, FramesBothWays) {
  FramesBothWays<E1000>(GetParam(), kFramesOfOneFlush);
}
// Direct: frames lie in up to three buffers, and are sent from three. Unaligned
// ends: the second half of each buffer is on a page that the NIC reaches
// itself.
INSTANTIATE_TEST_SUITE_P(
    All, QemuE1000InEachMode,
    ::testing::ValuesIn(StrictAndDeferred(
        {{.mode = DomainMode::kBounce, .room = 2048, .max_frame = 1514},
         {.mode = DomainMode::kDirect,
          .room = 512,
          .max_frame = 1514,
          .segments = 3},
         {.mode = DomainMode::kUnalignedEnds,
          .room = 2048,
          .max_frame = 1514,
          .offset = 3584,
          .segments = 2}})));
TEST(QemuE1000, PollOnly) {
  PollOnly<E1000>({.room = 512, .max_frame = 1514}, 3000);
}
TEST(QemuE1000, OverrunAndReset) {
  OverrunAndReset<E1000>({.room = 512, .max_frame = 1514});
}

class QemuVirtioInEachMode : public ::testing::TestWithParam<TrafficOptions> {};
TEST_P(QemuVirtioInEachMode, FramesBothWaysSplit) {
  FramesBothWays<Virtio<false>>(GetParam(), kFramesOfOneFlush);
}
TEST_P(QemuVirtioInEachMode, FramesBothWaysPacked) {
  FramesBothWays<Virtio<true>>(GetParam(), kFramesOfOneFlush);
}
// Bounce: frames lie in up to four buffers.
INSTANTIATE_TEST_SUITE_P(
    All, QemuVirtioInEachMode,
    ::testing::ValuesIn(StrictAndDeferred({{.mode = DomainMode::kBounce,
                                            .room = 500,
                                            .max_frame = 1514,
                                            .segments = 2},
                                           {.mode = DomainMode::kDirect,
                                            .room = 1524,
                                            .max_frame = 1514,
                                            .segments = 3},
                                           {.mode = DomainMode::kUnalignedEnds,
                                            .room = 1524,
                                            .max_frame = 1514,
                                            .offset = 3584}})));
TEST(QemuVirtioNet, PollOnly) {
  PollOnly<Virtio<false>>({.room = 1524, .max_frame = 1514}, 3000);
  PollOnly<Virtio<true>>({.room = 1524, .max_frame = 1514}, 3000);
}
TEST(QemuVirtioNet, OverrunAndReset) {
  OverrunAndReset<Virtio<false>>({.room = 1524, .max_frame = 1514});
  OverrunAndReset<Virtio<true>>({.room = 1524, .max_frame = 1514});
}

}  // namespace
}  // namespace dmamap::testing_qemu
