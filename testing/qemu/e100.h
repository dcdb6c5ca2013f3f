// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_QEMU_E100_H_
#define DMAMAP_TESTING_QEMU_E100_H_

// The registers of QEMU's Intel 8255x models (i82550 to i82801, here i82559er),
// as nicring's rings want them.
//
//   QemuE100 nic(&function);         // a ReceiverPort, ScbRegisters
//   rx_ring.Start(nic);
//   tx_ring.Start(nic.transmitter());        // a CommandPort
//
// What QEMU 7.2 does otherwise than the manual:
//   * the model sets C of a receive descriptor before it writes the count and
//     the frame; a register access behind a C that was seen waits for it, which
//     is what QemuE100Format adds;
//   * it executes 16 command blocks for a start or resume, and then is neither
//     active nor suspended, though its status says active. Between two register
//     accesses it never *is* active, so that counts as suspended here;
//   * a frame that meets a stop of size 0 is not lost: the model completes the
//     stop with no bytes, counts it as good, keeps the frame and delivers it
//     with the next start. So rx_good is one too high for each stop of an
//     RxRing, and rx_resource_errors counts frames that find the unit idle;
//   * self-test, DUMPSTATS and the two units are there; PORT dump and CU dump
//     are not.
//
// Source: Intel 8255x 10/100 Mbps Ethernet Controller Family Open Source
// Software Developer Manual: SCB 6.3.2, PORT 6.3.3, statistics 6.3.2.2 (numbers
// from memory).

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "dma/address.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/format.h"
#include "nicring/i8255x.h"
#include "nicring/i8255x_tx.h"
#include "nicring/interrupts.h"
#include "nicring/receiver.h"
#include "testing/qemu/pci.h"

namespace dmamap::inline v0 {

// Loads that wait for QEMU's model behind a status that says complete. The
// status word is the one whose address is a multiple of 16.
struct QemuE100Access : DeviceAccess {
  static inline Qtest* qtest = nullptr;  // of the machine at hand

  static std::uint16_t Load16(const std::byte* p) {
    const std::uint16_t value = DeviceAccess::Load16(p);
    const bool is_status = PhysAddrOf(p).value() % 16 == 0;
    if (is_status && (value & i8255x::kStatusComplete) != 0 &&
        qtest != nullptr) {
      qtest->Look();
    }
    return value;
  }
};
using QemuE100Format = BasicI8255xFormat<QemuE100Access>;
static_assert(ListFormat<QemuE100Format>);

class QemuE100 {
 public:
  static constexpr std::uint8_t kCauseRnr = 1u << 4;

  // What DUMPSTATS writes, as far as it is used here.
  struct Counters {
    std::uint32_t tx_good = 0;
    std::uint32_t rx_good = 0;
    std::uint32_t rx_resource_errors = 0;
    std::uint32_t rx_short = 0;
  };
  static constexpr std::uint64_t kCounterBytes = 256;

  class Transmitter {
   public:
    explicit Transmitter(QemuE100* nic) : nic_(nic) {}
    Result<void> Start(const RingAddresses& ring) {
      nic_->Command(kLoadCuBase, ring.descriptors);
      nic_->Command(kCuStart, Iova(0));
      return Ok();
    }
    bool Suspended() { return (nic_->Status() >> 6) != 0; }
    void Resume() { nic_->Write<std::uint8_t>(2, kCuResume); }
    // The unit has no abort of its own: between two accesses it is at rest.
    void Abort() {}

   private:
    QemuE100* nic_;
  };

  // Resets it, and masks its interrupt.
  explicit QemuE100(PciFunction* function) : function_(function) { Reset(); }

  Transmitter& transmitter() { return transmitter_; }

  // --- ReceiverPort ---
  Result<void> Start(Iova first) {
    Command(kLoadRuBase, Iova(0));
    Command(kRuStart, first);
    return Ok();
  }
  bool Stopped() { return (Status() >> 2 & 15) != kReady; }
  void AcknowledgeRnr() { Write<std::uint8_t>(1, kCauseRnr); }
  void Abort() { Write<std::uint8_t>(2, kRuAbort); }

  // --- ScbRegisters ---
  void Mask() { Write<std::uint8_t>(3, 1); }
  void Unmask() { Write<std::uint8_t>(3, 0); }
  std::uint8_t ReadCauses() { return Read<std::uint8_t>(1); }
  void ClearCauses(std::uint8_t bits) { Write<std::uint8_t>(1, bits); }

  // --- PORT ---
  // Both units stop; all registers are as at the beginning.
  void Reset() {
    Write<std::uint32_t>(8, 0);
    Mask();
  }
  // Writes 8 bytes at `at`, a multiple of 16: all ones, and the result, 0.
  void SelfTest(Iova at) {
    Write<std::uint32_t>(8, static_cast<std::uint32_t>(at.value()) | 1);
  }

  // Has the counters written to `block`, kCounterBytes of coherent memory.
  Counters Dump(const CoherentBlock& block) {
    Command(0x40, block.iova);
    Write<std::uint8_t>(2, 0x50);
    const auto at = [&](std::size_t offset) {
      std::uint32_t value;
      std::memcpy(&value, block.cpu + offset, sizeof value);
      return value;
    };
    return {at(0), at(36), at(48), at(60)};
  }

 private:
  static constexpr std::uint8_t kReady = 4;
  static constexpr std::uint8_t kRuStart = 1;
  static constexpr std::uint8_t kRuAbort = 4;
  static constexpr std::uint8_t kLoadRuBase = 6;
  static constexpr std::uint8_t kCuStart = 0x10;
  static constexpr std::uint8_t kCuResume = 0x20;
  static constexpr std::uint8_t kLoadCuBase = 0x60;

  template <class Width>
  Width Read(std::uint64_t offset) {
    return function_->Read<Width>(0, offset);
  }
  template <class Width>
  void Write(std::uint64_t offset, Width value) {
    function_->Write<Width>(0, offset, value);
  }
  unsigned Status() { return Read<std::uint8_t>(0); }
  void Command(std::uint8_t command, Iova at) {
    Write<std::uint32_t>(4, static_cast<std::uint32_t>(at.value()));
    Write<std::uint8_t>(2, command);
  }

  PciFunction* function_;
  Transmitter transmitter_{this};
};
static_assert(ReceiverPort<QemuE100> && ScbRegisters<QemuE100>);
static_assert(CommandPort<QemuE100::Transmitter>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_QEMU_E100_H_
