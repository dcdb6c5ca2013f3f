// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// QEMU's i82559er behind QEMU's VT-d, driven by nicring, domain/ and iommu/.

#include "testing/qemu/e100.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "domain/domain.h"
#include "nicring/interrupts.h"
#include "testing/qemu/traffic_cases_for_test.h"
#include "testing/qemu/traffic_for_test.h"

namespace dmamap::testing_qemu {
namespace {

// Loads of that machine wait for its models.
struct Ordered {
  explicit Ordered(VtdMachine& machine) {
    QemuE100Access::qtest = &machine.qtest();
  }
  ~Ordered() { QemuE100Access::qtest = nullptr; }
};

struct E100 {
  using Nic = QemuE100;
  using RxFormat = QemuE100Format;
  using TxFormat = I8255xTxFormat;
  using Scope = Ordered;
  template <class Rx>
  using InterruptsType = I8255xInterrupts<QemuE100, Rx>;
  static constexpr char kDevice[] = "i82559er";
  static constexpr bool kMapsWhatItSends = false;  // copies it
  static constexpr std::uint32_t kHeader = 16;
  static std::vector<std::string> Device() {
    return {"-device", std::string("i82559er,netdev=net,addr=4,mac=") + kMac};
  }
  static Result<void> Setup(Nic&) { return Ok(); }
  static std::uint64_t Features(Nic&) { return 0; }
  static Nic& Rx(Nic& nic) { return nic; }
  static Nic::Transmitter& Tx(Nic& nic) { return nic.transmitter(); }
  template <class Ring>
  static InterruptsType<Ring> InterruptsOf(Nic& nic, Ring& ring) {
    return {&nic, &ring};
  }
  template <class T>
  static void Unmask(T& t) {
    t.nic->Unmask();
  }
  template <class T>
  static void Mask(T& t) {
    t.nic->Mask();
  }
  template <class T>
  static void ExpectCounted(T& t) {
    const QemuE100::Counters c = t.nic->Dump(t.stats);
    EXPECT_EQ(c.rx_good, t.delivered);
    EXPECT_EQ(c.rx_resource_errors, 0u);
    EXPECT_EQ(c.tx_good, t.tx_seen);
  }
};
using E100Traffic = Traffic<E100>;

class QemuE100InEachMode : public ::testing::TestWithParam<TrafficOptions> {};
TEST_P(QemuE100InEachMode, FramesBothWays) {
  FramesBothWays<E100>(GetParam(), kFramesOfOneFlush);
}
// In the last one a frame's descriptor and first bytes are on a bounce page,
// the rest is on a page of the buffer.
constexpr TrafficOptions kUnalignedEnds = {.mode = DomainMode::kUnalignedEnds,
                                           .room = 8176,
                                           .max_frame = 1536,
                                           .offset = 3584};
INSTANTIATE_TEST_SUITE_P(
    All, QemuE100InEachMode,
    ::testing::ValuesIn(StrictAndDeferred({{.mode = DomainMode::kBounce},
                                           {.mode = DomainMode::kDirect},
                                           kUnalignedEnds})));

TEST(QemuE100, PollOnly) { PollOnly<E100>(kUnalignedEnds, 3000); }

// Frames for a ring that nobody polls wait (e100.h); frames that find the unit
// idle are lost, and counted. The ring goes on after either.
TEST(QemuE100, OverrunLosesWhatTheDeviceCounts) {
  E100Traffic t({.flush = FlushMode::kDeferred, .entries = 16});
  DMAMAP_START_OR_SKIP(t.started, t.machine);
  const Ordered ordered(t.machine);
  std::uint32_t lost = 0;
  for (int round = 0; round < 5; ++round) {
    const auto send = [&](std::uint32_t first, std::uint32_t n) {
      for (std::uint32_t i = 0; i < n && t.machine.ok();) {
        if (t.Send(first + i)) ++i;
        t.machine.qtest().Look();
      }
    };
    send(t.rx_next, 200);
    const std::uint32_t before = t.delivered;
    t.nic->Unmask();
    for (int i = 0; i < 500 && t.delivered < before + 200; ++i) t.Listen();
    EXPECT_EQ(t.delivered, before + 200);
    const std::uint64_t stops = t.rx.statistics().restarts;
    QemuE100::Counters c = t.nic->Dump(t.stats);
    EXPECT_EQ(c.rx_resource_errors, lost);
    // One restart in each round before was for the losses.
    EXPECT_EQ(c.rx_good, t.delivered + stops - lost / 50);

    // Behind the ring's back.
    t.nic->Mask();
    t.nic->Abort();
    send(1'000'000, 50);
    for (int i = 0; i < 500 && c.rx_resource_errors < lost + 50; ++i) {
      c = t.nic->Dump(t.stats);
    }
    lost += 50;
    EXPECT_EQ(c.rx_resource_errors, lost);
    t.rx.NoteDeviceLosses(50, 0);
    t.nic->Unmask();
    // What comes before the restart is lost too.
    for (int i = 0; i < 500 && t.rx.statistics().restarts == stops; ++i) {
      t.Listen();
    }
    t.Receive(300, 8);
    ASSERT_FALSE(HasFailure());
    t.nic->Mask();
  }
  EXPECT_EQ(t.rx.statistics().rx_resource_errors, lost);
  t.ExpectSound();
}

TEST(QemuE100, ResetInMidTrafficLeaksNothing) {
  E100Traffic t({.mode = DomainMode::kUnalignedEnds});
  DMAMAP_START_OR_SKIP(t.started, t.machine);
  const Ordered ordered(t.machine);
  t.expect_in_order = false;
  for (int round = 0; round < 10; ++round) {
    t.nic->Unmask();
    t.Receive(100);
    // Frames on their way in, frames posted and not sent.
    for (std::uint32_t n = 0; n < 20; ++n) (void)t.Send(t.rx_next + n);
    for (std::uint32_t n = 0; n < 8; ++n) t.PostFrame(t.tx_posted++);
    t.nic->Reset();
    t.rx.Shutdown(*t.nic);
    t.tx.Shutdown(t, t.nic->transmitter());
    ASSERT_FALSE(HasFailure());
    EXPECT_EQ(t.pool.free_buffers(), E100Traffic::kBuffers);
    EXPECT_EQ(t.tx_free.size(), E100Traffic::kTxSlots);
    EXPECT_EQ(t.tx.statistics().tx_cancelled,
              8u * (static_cast<unsigned>(round) + 1));
    std::uint64_t streams = 0;
    (void)t.domain.ReportLeaks([&](const Leak& leak) {
      streams += leak.kind == Leak::Kind::kStream ? 1 : 0;
    });
    EXPECT_EQ(streams, 0u);
    // What is still on the wire is lost, and what was cancelled never comes.
    for (int i = 0; i < 50; ++i) t.machine.qtest().Look();
    t.tx_posted = t.tx_seen;
    ASSERT_TRUE(t.StartRings().ok());
  }
  t.nic->Unmask();
  t.Transmit(200);
  t.ExpectSound();
}

TEST(QemuE100, SelfTestAndStatisticsAtChosenAddresses) {
  E100Traffic t({});
  DMAMAP_START_OR_SKIP(t.started, t.machine);
  const auto page = t.machine.buffers().Allocate(PageSize(), 1);
  ASSERT_TRUE(page.ok());
  // Addresses of the test's own, beside the domain's mappings.
  QemuVtdSpace& space = t.domain.invalidation();
  for (const std::uint64_t at : {0x7777'0000u, 0xffff'f000u}) {
    const Range range = *Range::FromSize(Iova(at), 4096);
    std::memset(*page, 0x77, 4096);
    ASSERT_TRUE(
        space.Map(range, PhysAddrOf(*page), Permission::kReadWrite).ok());
    ASSERT_TRUE(space.SyncMap(range).ok());
    t.nic->SelfTest(Iova(at + 0x40));
    std::uint32_t result[3];
    std::memcpy(result, *page + 0x40, sizeof result);
    EXPECT_EQ(result[0], UINT32_MAX);
    EXPECT_EQ(result[1], 0u);
    EXPECT_EQ(result[2], 0x7777'7777u);
    const auto c = t.nic->Dump({Iova(at + 0x100), *page + 0x100, 256});
    EXPECT_EQ(c.tx_good, 0u);
    EXPECT_EQ((*page)[0x100 + 255], std::byte{0x77});
    ASSERT_TRUE(space.Unmap(range).ok());
    ASSERT_TRUE(space.Invalidate(range).ok());
  }
  t.ExpectSound();
}

// The receiver goes on with a ring that is not its any more.
TEST(QemuE100, ADeviceThatIgnoresTheEndIsBlocked) {
  struct Deaf {
    Result<void> Start(Iova) { return Error::kDevice; }
    bool Stopped() { return false; }
    void AcknowledgeRnr() {}
    void Abort() {}  // says nothing to the NIC
  };
  for (const DomainMode mode :
       {DomainMode::kDirect, DomainMode::kUnalignedEnds, DomainMode::kBounce}) {
    E100Traffic t({.mode = mode});
    DMAMAP_START_OR_SKIP(t.started, t.machine);
    const Ordered ordered(t.machine);
    t.nic->Unmask();
    t.Receive(100);
    t.nic->Mask();
    Deaf deaf;
    t.rx.Shutdown(deaf);
    ASSERT_EQ(t.pool.free_buffers(), E100Traffic::kBuffers);
    for (std::uint32_t i = 0; i < E100Traffic::kBuffers; ++i) {
      std::memset(t.pool.At(i).data, 0x5c, t.pool.At(i).size);
    }
    for (std::uint32_t n = 0; n < 8; ++n) {
      while (!t.Send(n)) std::this_thread::yield();
      for (int i = 0; i < 20; ++i) t.machine.qtest().Look();
    }
    const auto faults = t.machine.TakeFaults();
    ASSERT_FALSE(faults.empty()) << ToString(mode);
    EXPECT_EQ(faults[0].source, t.function->source());
    for (std::uint32_t i = 0; i < E100Traffic::kBuffers; ++i) {
      const Buffer b = t.pool.At(i);
      for (std::uint32_t k = 0; k < b.size; ++k) {
        ASSERT_EQ(b.data[k], std::byte{0x5c}) << i << ' ' << k;
      }
    }
    t.nic->Reset();
    (void)t.machine.TakeFaults();
    t.ExpectSound();
  }
}

}  // namespace
}  // namespace dmamap::testing_qemu
