// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// QEMU's VT-d with devices that write where they are told: what is blocked,
// what the fault says, and that nothing that was freed is reached.

#include "testing/qemu/vtd_machine.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
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

volatile sig_atomic_t alarms = 0;

// A QEMU that says nothing, and a signal meanwhile: the wait ends in its time.
TEST(Qtest, AWaitIsBoundedAlsoWhenASignalComes) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const FileDescriptor far(ends[1]);
  Qtest qtest;
  qtest.Open(FileDescriptor(ends[0]));
  qtest.set_patience(std::chrono::milliseconds(300));
  alarms = 0;
  struct sigaction action {};
  struct sigaction old {};
  action.sa_handler = [](int) { alarms = 1; };
  action.sa_flags = SA_RESTART;
  ASSERT_EQ(sigaction(SIGALRM, &action, &old), 0);
  const itimerval soon = {{0, 0}, {0, 50'000}};
  ASSERT_EQ(setitimer(ITIMER_REAL, &soon, nullptr), 0);
  // Lines that toggle are no answer either.
  const std::string lines = "IRQ raise 16\nIRQ lower 16\n";
  ASSERT_EQ(write(ends[1], lines.data(), lines.size()),
            static_cast<ssize_t>(lines.size()));
  const auto begin = Clock::now();
  EXPECT_EQ(qtest.Read<std::uint32_t>(0), UINT32_MAX);
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(3));
  EXPECT_EQ(alarms, 1);
  EXPECT_EQ(qtest.raised(), 1u);
  EXPECT_NE(qtest.error().find("in time"), std::string::npos);
  sigaction(SIGALRM, &old, nullptr);
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
  std::uint64_t cycles = 0;  // of map, device write, unmap, late device write
  std::uint64_t reused = 0;  // maps that got an address of before
  std::uint64_t early = 0;   // late writes that still landed where they did
                             // before: deferred, and not yet invalidated
  std::uint64_t stale = 0;   // writes that reached what was freed, or another's
  std::uint64_t missed = 0;  // writes that did not reach what is mapped
  std::uint64_t requests = 0;
  double seconds = 0;
};

// Random maps and unmaps of a few buffers over few addresses. The device writes
// to what was just mapped, and after each unmap to that address or one unmapped
// before. What it may reach is the page (of a buffer, or for a buffer) behind
// the mapping that has the address now; until the invalidation is over, with no
// such mapping, the old page, which nobody else has meanwhile.
template <class Policies>
class Cycles {
 public:
  Cycles(SelfTester* t, DomainMode mode, FlushMode flush) : t_(*t) {
    EXPECT_TRUE(t_.m.Use(&domain_, t_.function->source()).ok());
    FlushQueueOptions options;
    options.mode = flush;
    options.entries = 16;
    options.max_age = 0;
    strict_ = flush == FlushMode::kStrict;
    EXPECT_TRUE(
        domain_
            .Init({.bounce_size = 64 * kBytes, .mode = mode, .flush = options})
            .ok());
    memory_ = *t_.m.buffers().Allocate(PageSize(), kBuffers);
  }
  ~Cycles() {
    for (auto& m : live_) {
      if (!m) continue;
      EXPECT_TRUE(domain_.Unmap(m->mapping).ok());
    }
    EXPECT_TRUE(domain_.Shutdown([](const Leak&) {}).ok());
    t_.m.buffers().Free(memory_, PageSize(), kBuffers);
    (void)t_.m.TakeFaults();
  }

  CycleCounts Run(std::uint64_t cycles) {
    const std::uint64_t before = domain_.invalidation().requests();
    {
      const Stopwatch watch(&counts_.seconds);
      while (counts_.cycles < cycles && !::testing::Test::HasFailure()) {
        const std::size_t k = random_() % kBuffers;
        if (live_[k]) {
          Unmap(k);
          WriteLate();
        } else {
          Map(k);
        }
      }
    }
    counts_.requests = domain_.invalidation().requests() - before;
    return counts_;
  }

 private:
  static constexpr std::size_t kBuffers = 12;
  static constexpr std::size_t kBytes = 4096;
  static constexpr std::size_t kOld = 40;
  struct Live {
    Mapping mapping;
    std::byte* page = nullptr;  // what the device reaches
  };
  struct Old {
    Iova at;
    std::byte* page = nullptr;
    SafetyTicket ticket;
  };

  void Map(std::size_t k) {
    const auto m = domain_.Map(PhysAddrOf(memory_ + k * kBytes), kBytes,
                               Direction::kBidirectional);
    ASSERT_TRUE(m.ok()) << ToString(m.error());
    const auto found = domain_.invalidation().Lookup(m->iova);
    ASSERT_TRUE(found.ok());
    live_[k] = Live{*m, t_.m.At(found->bus.value())};
    const bool reused =
        std::any_of(old_.begin(), old_.end(),
                    [&](const Old& o) { return o.at == m->iova; });
    counts_.reused += reused ? 1 : 0;
    if (Write(m->iova) != live_[k]->page) ++counts_.missed;
  }
  void Unmap(std::size_t k) {
    const Live was = *live_[k];
    live_[k].reset();
    ASSERT_TRUE(domain_.Unmap(was.mapping).ok());
    old_.push_back({was.mapping.iova, was.page, domain_.Retired()});
    if (old_.size() > kOld) old_.pop_front();
    ++counts_.cycles;
  }
  void WriteLate() {
    const std::size_t back = random_() % 2 == 0 ? 0 : random_() % old_.size();
    const Iova at = old_[old_.size() - 1 - back].at;
    std::byte* const hit = Write(at);
    for (const auto& m : live_) {
      if (!m || m->mapping.iova != at) continue;
      if (hit != m->page) ++(hit == nullptr ? counts_.missed : counts_.stale);
      return;
    }
    if (hit == nullptr) return;
    // The last that had the address.
    const auto o = std::find_if(old_.rbegin(), old_.rend(),
                                [&](const Old& e) { return e.at == at; });
    const bool safe = strict_ || domain_.IsSafe(o->ticket);
    ++(hit == o->page && !safe ? counts_.early : counts_.stale);
  }

  // One write of the device, somewhere in the page of `at`; the page of ours
  // that has changed, or null.
  std::byte* Write(Iova at) {
    std::vector<std::byte*> pages;
    for (std::size_t k = 0; k < kBuffers; ++k) {
      pages.push_back(memory_ + k * kBytes);
    }
    for (const auto& m : live_) {
      if (m) pages.push_back(m->page);
    }
    for (const Old& o : old_) pages.push_back(o.page);
    // Where none of them looks as after a write.
    const std::array<unsigned char, 8> written = {255, 255, 255, 255};
    const auto looks_written = [&](std::byte* page) {
      return std::memcmp(page + offset_, written.data(), 8) == 0;
    };
    for (const auto& m : live_) {
      if (m) std::memset(m->page, 0x66, kBytes);
    }
    do {
      offset_ = 16 * (random_() % 255);
    } while (std::any_of(pages.begin(), pages.end(), looks_written));
    t_.nic->SelfTest(at + offset_);
    for (std::byte* const page : pages) {
      if (!looks_written(page)) continue;
      // So that it can be seen again (nobody reads a page that is not live).
      std::memset(page + offset_, 0x66, 8);
      return page;
    }
    return nullptr;
  }

  SelfTester& t_;
  Domain<Policies> domain_;
  bool strict_ = true;
  std::byte* memory_ = nullptr;
  std::optional<Live> live_[kBuffers];
  std::deque<Old> old_;  // the last ones that were unmapped
  std::size_t offset_ = 0;
  std::mt19937 random_{4711};
  CycleCounts counts_;
};

constexpr DomainMode kModes[] = {
    DomainMode::kDirect, DomainMode::kUnalignedEnds, DomainMode::kBounce};
constexpr FlushMode kFlushes[] = {FlushMode::kStrict, FlushMode::kDeferred};

TEST(QemuVtd, NothingFreedIsReachedInCyclesOfReuse) {
  SelfTester t;
  DMAMAP_START_OR_SKIP(t.started, t.m);
  for (const DomainMode mode : kModes) {
    for (const FlushMode flush : kFlushes) {
      const bool strict = flush == FlushMode::kStrict;
      const CycleCounts c =
          Cycles<VtdMachinePolicies>(&t, mode, flush).Run(3000);
      EXPECT_EQ(c.stale, 0u);
      EXPECT_EQ(c.missed, 0u);
      EXPECT_GT(c.reused, 1000u);
      // The device is late often enough to see what deferred means.
      if (strict) {
        EXPECT_EQ(c.early, 0u);
        EXPECT_EQ(c.requests, c.cycles);
      } else {
        EXPECT_GT(c.early, 100u);
        EXPECT_LT(c.requests * 8, c.cycles);
      }
      std::printf("| %s, %s | %llu | %.0f | %llu | %llu | %llu | %llu |\n",
                  ToString(mode), strict ? "strict" : "deferred",
                  static_cast<unsigned long long>(c.cycles),
                  static_cast<double>(c.cycles) / c.seconds,
                  static_cast<unsigned long long>(c.requests),
                  static_cast<unsigned long long>(c.reused),
                  static_cast<unsigned long long>(c.early),
                  static_cast<unsigned long long>(c.stale));
    }
  }
  EXPECT_TRUE(t.m.ok()) << t.m.error();
}

// The control: with invalidations that do nothing, each of the six sees it.
TEST(QemuVtd, WithoutInvalidationsTheCyclesSeeIt) {
  SelfTester t;
  DMAMAP_START_OR_SKIP(t.started, t.m);
  for (const DomainMode mode : kModes) {
    for (const FlushMode flush : kFlushes) {
      const CycleCounts c = Cycles<ForgetfulPolicies>(&t, mode, flush).Run(300);
      EXPECT_GT(c.stale, 30u) << ToString(mode);
    }
  }
}

// What deferred means, step by step: until the invalidation the device may
// reach the old page, which is the control; the address and the page are nobody
// else's; on_safe tells the end; then the device is blocked.
TEST(QemuVtd, DeferredEndsWithTheInvalidation) {
  SelfTester t;
  DMAMAP_START_OR_SKIP(t.started, t.m);
  for (const DomainMode mode : kModes) {
    VtdMachineDomain domain;
    ASSERT_TRUE(t.m.Use(&domain, t.function->source()).ok());
    std::uint64_t safe = 0;  // pieces of buffers
    FlushQueueOptions flush;
    flush.mode = FlushMode::kDeferred;
    flush.max_age = 0;
    ASSERT_TRUE(domain
                    .Init({.mode = mode,
                           .flush = flush,
                           .on_safe =
                               [](void* sum, PhysRange) {
                                 ++*static_cast<std::uint64_t*>(sum);
                               },
                           .safe_context = &safe})
                    .ok());
    const auto memory = t.m.buffers().Allocate(PageSize(), 1);
    ASSERT_TRUE(memory.ok());
    const auto map = [&] {
      return domain.Map(PhysAddrOf(*memory), 4096, Direction::kBidirectional);
    };
    const auto m = map();
    ASSERT_TRUE(m.ok());
    std::byte* const page =
        t.m.At(domain.invalidation().Lookup(m->iova)->bus.value());
    ASSERT_EQ(page == *memory, mode != DomainMode::kBounce);
    ASSERT_TRUE(t.Writes(m->iova, page));
    ASSERT_TRUE(domain.Unmap(*m).ok());
    const SafetyTicket ticket = domain.Retired();
    std::vector<Mapping> others;
    for (int i = 0; i < 100; ++i) {
      const auto other = map();
      ASSERT_TRUE(other.ok());
      EXPECT_NE(other->iova, m->iova);
      const auto found = domain.invalidation().Lookup(other->iova);
      EXPECT_EQ(t.m.At(found->bus.value()) == page,
                mode != DomainMode::kBounce);
      others.push_back(*other);
    }
    EXPECT_TRUE(t.Writes(m->iova + 64, page + 64));  // the control
    EXPECT_FALSE(domain.IsSafe(ticket));
    EXPECT_EQ(safe, 0u);
    EXPECT_TRUE(t.m.TakeFaults().empty());

    ASSERT_TRUE(domain.Flush().ok());
    EXPECT_TRUE(domain.IsSafe(ticket));
    EXPECT_EQ(safe, mode == DomainMode::kBounce ? 0u : 1u);
    EXPECT_FALSE(t.Writes(m->iova + 64, page + 64));
    const auto faults = t.m.TakeFaults();
    ASSERT_EQ(faults.size(), 1u);
    EXPECT_EQ(faults[0].page, m->iova);
    // And now the address is used again.
    bool again = false;
    for (int i = 0; i < 500 && !again; ++i) {
      const auto other = map();
      ASSERT_TRUE(other.ok());
      again = other->iova == m->iova;
      others.push_back(*other);
    }
    EXPECT_TRUE(again);
    for (const Mapping& other : others) {
      ASSERT_TRUE(domain.Unmap(other).ok());
    }
    ASSERT_TRUE(domain.Shutdown([](const Leak&) {}).ok());
    t.m.buffers().Free(*memory, PageSize(), 1);
    (void)t.m.TakeFaults();
  }
}

}  // namespace
}  // namespace dmamap::testing_qemu
