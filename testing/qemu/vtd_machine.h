// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_QEMU_VTD_MACHINE_H_
#define DMAMAP_TESTING_QEMU_VTD_MACHINE_H_

// VtdMachine: a QemuMachine with an Intel IOMMU, driven by iommu/vtd.h, and its
// memory cut into pages for tables, pages that devices see (bounce pages,
// coherent memory) and buffers.
//
//   VtdMachine m;
//   m.Start({"-device", "edu,addr=7"}, {});
//   VtdMachineDomain domain;                    // a Domain over this IOMMU
//   m.Use(&domain, PciSource(0, 7, 0));
//   domain.Init({.mode = DomainMode::kDirect});
//
// Pointers into the machine's memory are the CPU's addresses; the devices' are
// offsets in it. For one thread at a time.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "bounce/page_source.h"
#include "bounce/user_pages.h"
#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"
#include "domain/domain.h"
#include "iommu/bus_memory.h"
#include "iommu/vtd.h"
#include "testing/qemu/machine.h"

namespace dmamap::inline v0 {

// The registers of QEMU's unit.
class QemuVtdRegisters {
 public:
  static constexpr std::uint64_t kBase = 0xfed9'0000;
  explicit QemuVtdRegisters(Qtest* qtest) : qtest_(qtest) {}

  std::uint32_t Read32(std::uint32_t offset) {
    return qtest_->Read<std::uint32_t>(kBase + offset);
  }
  std::uint64_t Read64(std::uint32_t offset) {
    return qtest_->Read<std::uint64_t>(kBase + offset);
  }
  void Write32(std::uint32_t offset, std::uint32_t value) {
    qtest_->Write<std::uint32_t>(kBase + offset, value);
  }
  void Write64(std::uint32_t offset, std::uint64_t value) {
    qtest_->Write<std::uint64_t>(kBase + offset, value);
  }

 private:
  Qtest* qtest_;
};
static_assert(RegisterFile<QemuVtdRegisters>);

// QEMU's unit says that it does not snoop, and reads the same memory.
class QemuTableMemory : public LinearMemory<UserPages> {
 public:
  void WriteBack(const std::byte*, std::size_t bytes) { written_ += bytes; }
  std::uint64_t written() const { return written_; }

 private:
  std::uint64_t written_ = 0;
};
static_assert(BusMemory<QemuTableMemory> && WritesBack<QemuTableMemory>);

using QemuVtdUnit = VtdUnit<QemuVtdRegisters, QemuTableMemory>;
using QemuVtdSpace = VtdSpace<QemuVtdUnit>;

struct VtdMachinePolicies : DomainPolicies {
  using Pages = UserPages;
  using Invalidation = QemuVtdSpace;
};
using VtdMachineDomain = Domain<VtdMachinePolicies>;

class VtdMachine {
 public:
  // Pages of the machine's memory, one piece after the other: nothing in the
  // first MiB, which a PC has its own ideas about.
  static constexpr std::uint64_t kTables = std::uint64_t{1} << 20;
  static constexpr std::uint64_t kSeen = std::uint64_t{9} << 20;
  static constexpr std::uint64_t kBuffers = std::uint64_t{33} << 20;
  static constexpr std::uint64_t kEnd = std::uint64_t{64} << 20;

  // `iommu`: options of the device, with a comma in front.
  Result<void> Start(std::vector<std::string> devices,
                     std::vector<int> inherited = {},
                     const std::string& iommu = "") {
    std::vector<std::string> arguments = {"-device",
                                          "intel-iommu,intremap=off" + iommu};
    arguments.insert(arguments.end(), devices.begin(), devices.end());
    auto done = machine_.Start({.ram_bytes = kEnd,
                                .arguments = std::move(arguments),
                                .inherited = std::move(inherited)});
    if (!done.ok()) return done;
    memory_.SetWindow(machine_.ram_range(), PhysAddr(0));
    done = Lend(memory_.pages(), kTables, kSeen);
    if (done.ok()) done = Lend(buffers_, kBuffers, kEnd);
    // The unit answers in the access: few looks are enough.
    if (done.ok()) {
      done = unit_.Init(&registers_, &memory_, {.polls = 1u << 14});
    }
    return done.ok() ? unit_.Enable() : done;
  }
  bool ok() const { return machine_.ok(); }
  std::string error() const { return machine_.error(); }

  QemuMachine& machine() { return machine_; }
  Qtest& qtest() { return machine_.qtest(); }
  QemuVtdUnit& unit() { return unit_; }
  QemuVtdRegisters& registers() { return registers_; }
  QemuTableMemory& memory() { return memory_; }
  // For drivers' own data: a PageSource.
  UserPages& buffers() { return buffers_; }
  std::byte* At(std::uint64_t physical) {
    return machine_.ram().data() + physical;
  }

  // Prepares a domain for one function, before its Init. Only one domain at a
  // time has the pages that devices see.
  template <class D>
  Result<void> Use(D* domain, PciSource source,
                   const VtdSpaceOptions& options = {}) {
    auto done = domain->invalidation().Init(&unit_, options);
    if (done.ok()) done = domain->invalidation().Attach(source);
    return done.ok() ? Lend(domain->pages(), kSeen, kBuffers) : done;
  }

  // The faults recorded since the last time, oldest first. Empty also when the
  // unit does not answer.
  std::vector<IommuFault> TakeFaults(bool* overflow = nullptr) {
    std::vector<IommuFault> faults;
    const auto read = unit_.ReadFaults(
        [&](const IommuFault& fault) { faults.push_back(fault); });
    if (overflow != nullptr) *overflow = read.ok() && read->overflow;
    return faults;
  }

 private:
  Result<void> Lend(UserPages& pages, std::uint64_t from, std::uint64_t to) {
    const std::array regions = {UserRegion{At(from), to - from}};
    return pages.Register({.regions = regions});
  }

  // In this order: the unit is stopped before its machine is.
  QemuMachine machine_;
  QemuVtdRegisters registers_{&machine_.qtest()};
  QemuTableMemory memory_;
  UserPages buffers_;
  QemuVtdUnit unit_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_QEMU_VTD_MACHINE_H_
