// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_QEMU_PCI_H_
#define DMAMAP_TESTING_QEMU_PCI_H_

// PciFunction: a function on bus 0 of a QemuMachine: its configuration space,
// its base address registers (which no firmware has set up), its registers.
//
//   PciFunction nic(&machine, 4);
//   nic.Enable();                            // addresses, memory, bus master
//   std::uint16_t status = nic.Read<std::uint16_t>(0, 0x00);  // BAR 0
//
// Source: PCI Local Bus Specification 3.0, 3.2.2.3.2 (configuration mechanism),
// 6.1, 6.2.5.1 (base addresses), 6.7 (capabilities). For one thread at a time.

#include <array>
#include <cstdint>

#include "dma/address.h"
#include "dma/version.h"
#include "iommu/fault_log.h"
#include "testing/qemu/machine.h"
#include "testing/qemu/qtest.h"

namespace dmamap::inline v0 {

class PciFunction {
 public:
  PciFunction(QemuMachine* machine, unsigned device, unsigned function = 0)
      : qtest_(&machine->qtest()), source_(0, device, function) {}

  PciSource source() const { return source_; }

  std::uint32_t Config32(std::uint32_t offset) {
    Select(offset);
    return qtest_->In32(0xcfc);
  }
  std::uint16_t Config16(std::uint32_t offset) {
    return static_cast<std::uint16_t>(Config32(offset & ~3u) >>
                                      (offset & 2) * 8);
  }
  void SetConfig32(std::uint32_t offset, std::uint32_t value) {
    Select(offset);
    qtest_->Out32(0xcfc, value);
  }

  std::uint16_t vendor() { return Config16(0); }
  std::uint16_t device() { return Config16(2); }

  // Gives each memory BAR an address of its own and lets the function decode
  // and be a bus master.
  void Enable() {
    // A megabyte for each function is enough for all models used here, larger
    // BARs begin on their own size above.
    std::uint64_t next = 0xe000'0000 + (std::uint64_t{source_.devfn()} << 20);
    for (unsigned i = 0; i < kBars; ++i) {
      const std::uint32_t at = 0x10 + 4 * i;
      SetConfig32(at, UINT32_MAX);
      const std::uint32_t mask = Config32(at);
      if (mask == 0 || mask == UINT32_MAX) continue;
      if ((mask & 1) != 0) {  // ports: not used
        SetConfig32(at, 0);
        continue;
      }
      const std::uint64_t size = std::uint64_t{~(mask & ~15u)} + 1;
      next = (next + size - 1) / size * size;
      bars_[i] = next;
      SetConfig32(at, static_cast<std::uint32_t>(next));
      next += size;
      if ((mask & 6) == 4) SetConfig32(0x10 + 4 * ++i, 0);  // 64 bits
    }
    SetConfig32(4, kMemory | kMaster);
  }

  std::uint64_t bar(unsigned i) const { return bars_[i]; }
  template <class Width>
  Width Read(unsigned bar, std::uint64_t offset) {
    return qtest_->Read<Width>(bars_[bar] + offset);
  }
  template <class Width>
  void Write(unsigned bar, std::uint64_t offset, Width value) {
    qtest_->Write<Width>(bars_[bar] + offset, value);
  }

  // Where the `nth` capability of this id lies; 0: there is none.
  std::uint32_t Capability(std::uint8_t id, unsigned nth = 0) {
    std::uint32_t at = Config32(0x34) & 0xfc;
    for (int i = 0; at != 0 && i < 48; ++i) {  // as many as there is room for
      const std::uint32_t head = Config32(at);
      if ((head & 0xff) == id && nth-- == 0) return at;
      at = head >> 8 & 0xfc;
    }
    return 0;
  }

  // From now on its interrupt is a write of `value` to `address`, which goes
  // the way of any other write of the function. False: it has no MSI.
  bool EnableMsi(Iova address, std::uint16_t value) {
    const std::uint32_t at = Capability(5);
    if (at == 0) return false;
    const std::uint32_t control = Config32(at);
    const bool wide = (control >> 23 & 1) != 0;
    SetConfig32(at + 4, static_cast<std::uint32_t>(address.value()));
    if (wide) {
      SetConfig32(at + 8, static_cast<std::uint32_t>(address.value() >> 32));
    }
    SetConfig32(at + (wide ? 12 : 8), value);
    SetConfig32(at, control | 1u << 16);
    return true;
  }

 private:
  static constexpr unsigned kBars = 6;
  static constexpr std::uint32_t kMemory = 2;
  static constexpr std::uint32_t kMaster = 4;

  void Select(std::uint32_t offset) {
    qtest_->Out32(
        0xcf8, 1u << 31 | std::uint32_t{source_.id()} << 8 | (offset & 0xfc));
  }

  Qtest* qtest_;
  PciSource source_;
  std::array<std::uint64_t, kBars> bars_{};
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_QEMU_PCI_H_
