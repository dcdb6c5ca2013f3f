// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// QEMU's VT-d with devices that write where they are told: what is blocked,
// what the fault says, and that nothing that was freed is reached.

#include "testing/qemu/vtd_machine.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "domain/domain.h"
#include "testing/qemu/e100.h"
#include "testing/qemu/edu.h"
#include "testing/qemu/frames_for_test.h"
#include "testing/qemu/pci.h"

namespace dmamap::testing_qemu {
namespace {

Range PageAt(std::uint64_t first) {
  return *Range::FromSize(Iova(first), 4096);
}

// --- The harness ---

TEST(QemuMachine, NamesThePackageThatIsMissing) {
  const char* const before = std::getenv("PATH");
  const std::string path = before == nullptr ? "" : before;
  setenv("PATH", "/nowhere", 1);
  QemuMachine machine;
  const auto started = machine.Start({});
  setenv("PATH", path.c_str(), 1);
  if (std::getenv("DMAMAP_QEMU") != nullptr) GTEST_SKIP() << "named by hand";
  EXPECT_EQ(started.error(), Error::kUnsupported);
  EXPECT_NE(machine.error().find("qemu-system-x86"), std::string::npos);
}

TEST(QemuMachine, DiesWithWhoStartedIt) {
  if (QemuMachine::Program().empty())
    GTEST_SKIP() << QemuMachine::MissingText();
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t owner = fork();
  ASSERT_GE(owner, 0);
  if (owner == 0) {
    QemuMachine machine;
    const pid_t pid = machine.Start({}).ok() ? machine.pid() : 0;
    (void)!write(ends[1], &pid, sizeof pid);
    for (;;) pause();
  }
  pid_t qemu = 0;
  ASSERT_EQ(read(ends[0], &qemu, sizeof qemu),
            static_cast<ssize_t>(sizeof qemu));
  ASSERT_GT(qemu, 0);
  EXPECT_EQ(kill(qemu, 0), 0);
  kill(owner, SIGKILL);
  waitpid(owner, nullptr, 0);
  bool gone = false;
  for (int i = 0; i < 1000 && !gone; ++i) {
    // A zombie that nobody has waited for yet counts as gone.
    char state = '?';
    const std::string name = "/proc/" + std::to_string(qemu) + "/stat";
    if (FILE* const file = std::fopen(name.c_str(), "r")) {
      (void)!std::fscanf(file, "%*d (%*[^)]) %c", &state);
      std::fclose(file);
      gone = state == 'Z' || state == 'X';
    } else {
      gone = true;
    }
    usleep(5000);
  }
  EXPECT_TRUE(gone);
  close(ends[0]);
  close(ends[1]);
}

TEST(QemuMachine, SaysWhatQemuRefuses) {
  if (QemuMachine::Program().empty())
    GTEST_SKIP() << QemuMachine::MissingText();
  QemuMachine machine;
  EXPECT_EQ(machine.Start({.arguments = {"-device", "no-such-device"}}).error(),
            Error::kDevice);
  EXPECT_FALSE(machine.ok());
  EXPECT_EQ(machine.qtest().Read<std::uint32_t>(0), UINT32_MAX);
}

// --- edu ---

TEST(QemuEdu, DmaBothWaysAndItsInterruptThroughTheIommu) {
  VtdMachine m;
  const auto started = m.Start({"-device", QemuEdu::kArgument});
  DMAMAP_START_OR_SKIP(started, m);
  PciFunction function(&m.machine(), 7);
  ASSERT_EQ(function.vendor(), 0x1234u);
  function.Enable();
  QemuEdu edu(&function);
  ASSERT_EQ(edu.id() & 0xff, 0xedu);
  VtdMachineDomain domain;
  ASSERT_TRUE(m.Use(&domain, function.source()).ok());
  ASSERT_TRUE(domain.Init({.mode = DomainMode::kUnalignedEnds}).ok());

  // The interrupt's message is a write to coherent memory.
  const auto mailbox = domain.AllocateCoherent(64);
  ASSERT_TRUE(mailbox.ok());
  ASSERT_TRUE(function.EnableMsi(mailbox->iova + 16, 0x4321));
  const auto wait = [&] {
    std::uint32_t message = 0;
    for (int i = 0; i < 2000 && message == 0; ++i) {
      std::memcpy(&message, mailbox->cpu + 16, sizeof message);
      usleep(1000);
    }
    std::memset(mailbox->cpu, 0, 64);
    edu.AcknowledgeInterrupt();
    return message;
  };

  constexpr std::uint64_t kBytes = 4000;
  const auto memory = m.buffers().Allocate(PageSize(), 4);
  ASSERT_TRUE(memory.ok());
  std::byte* const from = *memory + 100;
  std::byte* const to = *memory + 8192 + 4000;  // over the end of a page
  for (std::uint64_t i = 0; i < kBytes; ++i) {
    from[i] = static_cast<std::byte>(i * 13 + 5);
  }
  const auto out = domain.Map(PhysAddrOf(from), kBytes, Direction::kToDevice);
  ASSERT_TRUE(out.ok());
  edu.Begin(QemuEdu::Way::kIn, out->iova, kBytes, true);
  EXPECT_EQ(wait(), 0x4321u);
  ASSERT_TRUE(domain.Unmap(*out).ok());
  std::memset(*memory + 8192, 0x11, 8192);
  const auto in = domain.Map(PhysAddrOf(to), kBytes, Direction::kFromDevice);
  ASSERT_TRUE(in.ok());
  edu.Begin(QemuEdu::Way::kOut, in->iova, kBytes, true);
  EXPECT_EQ(wait(), 0x4321u);
  ASSERT_TRUE(domain.Unmap(*in).ok());
  EXPECT_EQ(std::memcmp(from, to, kBytes), 0);
  EXPECT_EQ(to[-1], std::byte{0x11});
  EXPECT_EQ(to[kBytes], std::byte{0x11});

  EXPECT_TRUE(m.TakeFaults().empty());
  // A write to what may only be read does not land, and the fault says so.
  const auto only = domain.Map(PhysAddrOf(*memory), 4096, Direction::kToDevice);
  ASSERT_TRUE(only.ok());
  std::memset(*memory, 0x22, 4096);
  edu.Begin(QemuEdu::Way::kOut, only->iova, 4000, true);
  EXPECT_EQ(wait(), 0x4321u);
  EXPECT_EQ((*memory)[0], std::byte{0x22});
  EXPECT_EQ((*memory)[3999], std::byte{0x22});
  auto faults = m.TakeFaults();
  ASSERT_FALSE(faults.empty());
  EXPECT_EQ(faults[0].page, only->iova);
  EXPECT_EQ(faults[0].source, function.source());
  EXPECT_EQ(faults[0].access, Permission::kWrite);
  EXPECT_EQ(faults[0].reason, 5);
  ASSERT_TRUE(domain.Unmap(*only).ok());

  ASSERT_TRUE(domain.FreeCoherent(*mailbox).ok());
  // The message's address is gone: the next one is blocked.
  edu.Begin(QemuEdu::Way::kIn, out->iova, 16, true);
  faults.clear();
  for (int i = 0; i < 200 && faults.empty(); ++i) {
    usleep(2000);
    faults = m.TakeFaults();
  }
  ASSERT_FALSE(faults.empty());
  EXPECT_EQ(faults[0].source, function.source());
  EXPECT_EQ(faults[0].page.value(), out->iova.value() & ~std::uint64_t{4095});
  EXPECT_EQ(faults[0].access, Permission::kRead);
}

// --- What is blocked: a device that writes 8 bytes at once, wherever ---

struct SelfTester {
  SelfTester() {
    started =
        m.Start({"-device", "i82559er,addr=4", "-device", "i82559er,addr=5"});
    if (!started.ok()) return;
    function.emplace(&m.machine(), 4);
    function->Enable();
    nic.emplace(&*function);
  }
  // True when the eight bytes at `at` were written.
  bool Writes(Iova iova, std::byte* at) {
    std::memset(at, 0x77, 8);
    nic->SelfTest(iova);
    const std::array<unsigned char, 8> want = {255, 255, 255, 255, 0, 0, 0, 0};
    return std::memcmp(at, want.data(), want.size()) == 0;
  }
  VtdMachine m;
  Result<void> started;
  std::optional<PciFunction> function;
  std::optional<QemuE100> nic;
};

TEST(QemuVtd, WhatIsNotMappedIsBlocked) {
  SelfTester t;
  DMAMAP_START_OR_SKIP(t.started, t.m);
  QemuVtdSpace space;
  ASSERT_TRUE(space.Init(&t.m.unit()).ok());
  const auto pages = t.m.buffers().Allocate(PageSize(), 2);
  ASSERT_TRUE(pages.ok());
  std::byte* const a = *pages;

  // No root entry, or no context: reasons 1 and 2.
  EXPECT_FALSE(t.Writes(Iova(0x10000), a));
  auto faults = t.m.TakeFaults();
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_LE(faults[0].reason, 2);
  EXPECT_EQ(faults[0].source, t.function->source());

  ASSERT_TRUE(space.Attach(t.function->source()).ok());
  EXPECT_FALSE(t.Writes(Iova(0x12345010), a));
  faults = t.m.TakeFaults();
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0].page.value(), 0x1234'5000u);
  EXPECT_EQ(faults[0].source, t.function->source());
  EXPECT_EQ(faults[0].access, Permission::kRead);  // it reads there first
  EXPECT_EQ(faults[0].reason, 6);

  const auto map = [&](std::uint64_t at, std::byte* memory, Permission p) {
    return space.Map(PageAt(at), PhysAddrOf(memory), p).ok() &&
           space.SyncMap(PageAt(at)).ok();
  };
  ASSERT_TRUE(map(0x1234'5000, a, Permission::kReadWrite));
  EXPECT_TRUE(t.Writes(Iova(0x1234'5010), a + 16));
  EXPECT_TRUE(t.m.TakeFaults().empty());

  // A write to what may only be read does not land. (It reads first, and QEMU
  // records no fault for a write that its IOTLB stops; edu's write is its first
  // access, see there.)
  ASSERT_TRUE(map(0x2000'0000, a + 4096, Permission::kRead));
  EXPECT_FALSE(t.Writes(Iova(0x2000'0020), a + 4096 + 32));
  ASSERT_TRUE(space.Protect(PageAt(0x2000'0000), Permission::kReadWrite).ok());
  EXPECT_TRUE(t.Writes(Iova(0x2000'0020), a + 4096 + 32));
  ASSERT_TRUE(space.Protect(PageAt(0x2000'0000), Permission::kRead).ok());
  EXPECT_FALSE(t.Writes(Iova(0x2000'0020), a + 4096 + 32));
  (void)t.m.TakeFaults();

  // More faults than QEMU has registers (one): the rest is known to be lost.
  // (Of one source it keeps the first and says nothing.)
  PciFunction other(&t.m.machine(), 5);
  other.Enable();
  QemuE100 second(&other);
  EXPECT_FALSE(t.Writes(Iova(0x5000'0000), a));
  second.SelfTest(Iova(0x1234'5010));
  bool overflow = false;
  faults = t.m.TakeFaults(&overflow);
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0].source, t.function->source());
  EXPECT_TRUE(overflow);
  faults = t.m.TakeFaults(&overflow);
  EXPECT_TRUE(faults.empty() && !overflow);
  second.SelfTest(Iova(0x1234'5010));
  faults = t.m.TakeFaults();
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0].source, other.source());

  ASSERT_TRUE(space.Detach(t.function->source()).ok());
  EXPECT_FALSE(t.Writes(Iova(0x1234'5010), a + 16));
}

// The control: the harness sees a stale translation.
TEST(QemuVtd, WithoutInvalidationTheOldPageIsReached) {
  SelfTester t;
  DMAMAP_START_OR_SKIP(t.started, t.m);
  QemuVtdSpace space;
  ASSERT_TRUE(space.Init(&t.m.unit()).ok());
  ASSERT_TRUE(space.Attach(t.function->source()).ok());
  const auto pages = t.m.buffers().Allocate(PageSize(), 2);
  ASSERT_TRUE(pages.ok());
  std::byte* const old = *pages;
  std::byte* const fresh = *pages + 4096;
  const auto map = [&](std::uint64_t at, std::byte* memory) {
    return space.Map(PageAt(at), PhysAddrOf(memory), Permission::kReadWrite)
        .ok();
  };
  ASSERT_TRUE(map(0x1000'0000, old));
  ASSERT_TRUE(map(0x1000'1000, old));  // the table stays
  ASSERT_TRUE(t.Writes(Iova(0x1000'0040), old + 64));
  ASSERT_TRUE(space.Unmap(PageAt(0x1000'0000)).ok());
  EXPECT_TRUE(t.Writes(Iova(0x1000'0040), old + 64));
  ASSERT_TRUE(map(0x1000'0000, fresh));
  EXPECT_FALSE(t.Writes(Iova(0x1000'0040), fresh + 64));
  EXPECT_TRUE(t.Writes(Iova(0x1000'0040), old + 64));
  ASSERT_TRUE(space.Invalidate(PageAt(0x1000'0000)).ok());
  EXPECT_TRUE(t.Writes(Iova(0x1000'0040), fresh + 64));
  EXPECT_FALSE(t.Writes(Iova(0x1000'0040), old + 64));
  EXPECT_TRUE(t.m.TakeFaults().empty());
}

// Large leaves, split under a device that has used them.
TEST(QemuVtd, LargeLeavesOfBothWidths) {
  for (const bool four : {false, true}) {
    VtdMachine m;
    const auto started =
        m.Start({"-device", "i82559er,addr=4"}, {}, four ? ",aw-bits=48" : "");
    DMAMAP_START_OR_SKIP(started, m);
    PciFunction function(&m.machine(), 4);
    function.Enable();
    QemuE100 nic(&function);
    QemuVtdSpace space;
    ASSERT_TRUE(space.Init(&m.unit(), {.address_bits = four ? 48u : 39u}).ok());
    ASSERT_TRUE(space.Attach(function.source()).ok());
    // 8 MiB of memory from 40 MiB on, at 1 GiB.
    std::byte* const memory = m.At(std::uint64_t{40} << 20);
    const std::uint64_t at = std::uint64_t{1} << 30;
    const Range all = *Range::FromSize(Iova(at), std::uint64_t{8} << 20);
    ASSERT_TRUE(
        space.Map(all, PhysAddrOf(memory), Permission::kReadWrite).ok());
    ASSERT_TRUE(space.SyncMap(all).ok());
    ASSERT_EQ(space.Lookup(Iova(at))->level, 2u);
    const auto writes = [&](std::uint64_t offset) {
      std::memset(memory + offset, 0x77, 8);
      nic.SelfTest(Iova(at + offset));
      return memory[offset] == std::byte{0xff};
    };
    EXPECT_TRUE(writes(0x250000) && writes(0x251000) && writes(0x7ffff0));
    const Range one = PageAt(at + 0x250000);
    ASSERT_TRUE(space.Unmap(one).ok());
    ASSERT_TRUE(space.Invalidate(one).ok());
    EXPECT_FALSE(writes(0x250000));
    EXPECT_TRUE(writes(0x251000) && writes(0x24f000) && writes(0x7ffff0));
    EXPECT_EQ(space.Lookup(Iova(at + 0x251000))->level, 1u);
    EXPECT_EQ(m.TakeFaults().size(), 1u);
    EXPECT_TRUE(space.CheckInvariants());
  }
}

// --- Nothing that was freed is reached ---

// An IommuMap whose invalidations do nothing, for the control.
class ForgetfulSpace : public QemuVtdSpace {
 public:
  Result<void> Invalidate(Range) { return Ok(); }
  Result<void> InvalidateAll() { return Ok(); }
};
struct ForgetfulPolicies : VtdMachinePolicies {
  using Invalidation = ForgetfulSpace;
};

struct CycleCounts {
  std::uint64_t cycles = 0;
  std::uint64_t stale = 0;   // accesses that reached what was freed
  std::uint64_t missed = 0;  // accesses that did not reach what is mapped
  std::uint64_t requests = 0;
  double seconds = 0;
};

// Random maps and unmaps of a few buffers over few addresses, so that addresses
// are used again soon; after each, the device writes to a mapping that is live,
// or (where `late`) to one that is not, and all buffers are looked at.
template <class Policies>
CycleCounts RunCycles(SelfTester& t, DomainMode mode, FlushMode flush,
                      std::uint64_t cycles) {
  CycleCounts counts;
  Domain<Policies> domain;
  EXPECT_TRUE(t.m.Use(&domain, t.function->source()).ok());
  FlushQueueOptions options;
  options.mode = flush;
  options.entries = 16;
  EXPECT_TRUE(
      domain.Init({.bounce_size = 64 * 4096, .mode = mode, .flush = options})
          .ok());
  constexpr std::size_t kBuffers = 12;
  constexpr std::size_t kBytes = 4096;
  const auto memory = t.m.buffers().Allocate(PageSize(), kBuffers);
  EXPECT_TRUE(memory.ok());
  std::optional<Mapping> live[kBuffers];
  const auto stays =
      domain.Map(PhysAddrOf(*memory), 64, Direction::kFromDevice);
  std::mt19937 random(4711);
  const auto begin = Clock::now();
  const std::uint64_t before = domain.invalidation().requests();
  const auto buffer = [&](std::size_t k) { return *memory + k * kBytes; };
  // One write of the device; which buffer has changed, or kBuffers.
  const auto write = [&](Iova at) {
    std::memset(*memory, 0x66, kBuffers * kBytes);
    t.nic->SelfTest(at);
    for (std::size_t k = 0; k < kBuffers; ++k) {
      for (std::size_t i = 0; i < kBytes; i += 16) {
        if (buffer(k)[i] != std::byte{0x66}) return k;
      }
    }
    return kBuffers;
  };
  for (counts.cycles = 0; counts.cycles < cycles; ++counts.cycles) {
    const std::size_t k = 1 + random() % (kBuffers - 1);
    if (!live[k]) {
      const auto m =
          domain.Map(PhysAddrOf(buffer(k)), kBytes, Direction::kFromDevice);
      EXPECT_TRUE(m.ok());
      if (m.ok()) live[k] = *m;
      if (m.ok() && write(m->iova + 16 * (random() % 255)) != k) {
        // On a bounce page until it is synced.
        const bool bounced = mode == DomainMode::kBounce;
        counts.missed += bounced ? 0 : 1;
      }
      continue;
    }
    const Mapping m = *live[k];
    live[k].reset();
    EXPECT_TRUE(domain.Unmap(m).ok());
    if (flush == FlushMode::kStrict) {
      // The device is late.
      if (write(m.iova + 32) != kBuffers) ++counts.stale;
    }
  }
  counts.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  counts.requests = domain.invalidation().requests() - before;
  for (auto& m : live) {
    if (m) {
      EXPECT_TRUE(domain.Unmap(*m).ok());
    }
  }
  EXPECT_TRUE(domain.Unmap(*stays).ok());
  EXPECT_TRUE(domain.Shutdown([](const Leak&) {}).ok());
  t.m.buffers().Free(*memory, PageSize(), kBuffers);
  (void)t.m.TakeFaults();
  return counts;
}

TEST(QemuVtd, NothingFreedIsReachedInCyclesOfReuse) {
  SelfTester t;
  DMAMAP_START_OR_SKIP(t.started, t.m);
  for (const DomainMode mode :
       {DomainMode::kDirect, DomainMode::kUnalignedEnds, DomainMode::kBounce}) {
    for (const FlushMode flush : {FlushMode::kStrict, FlushMode::kDeferred}) {
      const CycleCounts c = RunCycles<VtdMachinePolicies>(t, mode, flush, 3000);
      EXPECT_EQ(c.stale, 0u);
      EXPECT_EQ(c.missed, 0u);
      std::printf(
          "%s, %s: %llu cycles, %.0f a second, %llu requests, "
          "stale %llu\n",
          ToString(mode), flush == FlushMode::kStrict ? "strict" : "deferred",
          static_cast<unsigned long long>(c.cycles),
          static_cast<double>(c.cycles) / c.seconds,
          static_cast<unsigned long long>(c.requests),
          static_cast<unsigned long long>(c.stale));
    }
  }
  EXPECT_TRUE(t.m.ok()) << t.m.error();
}

// The control: with invalidations that do nothing, both kinds are seen.
TEST(QemuVtd, WithoutInvalidationsTheCyclesSeeIt) {
  SelfTester t;
  DMAMAP_START_OR_SKIP(t.started, t.m);
  CycleCounts c = RunCycles<ForgetfulPolicies>(t, DomainMode::kDirect,
                                               FlushMode::kStrict, 300);
  EXPECT_GT(c.stale, 50u);
  c = RunCycles<ForgetfulPolicies>(t, DomainMode::kDirect, FlushMode::kDeferred,
                                   1000);
  EXPECT_GT(c.missed, 50u);
}

}  // namespace
}  // namespace dmamap::testing_qemu
