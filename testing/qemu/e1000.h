// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_QEMU_E1000_H_
#define DMAMAP_TESTING_QEMU_E1000_H_

// The registers of QEMU's e1000 (82540EM), as nicring's rings want them.
//
// The model moves frames within a register access or its main loop, so what
// stops it has stopped it when the access returns. While no descriptor is free
// the sender waits; a frame that needs more of them than there are is lost, and
// counted. What QEMU 7.2 does otherwise than the manual: the count of missed
// frames is not cleared by reading; and for a second of the machine's time
// after each write of RCTL no frame comes in.
//
// Source: Intel PCI/PCI-X Family of Gigabit Ethernet Controllers Software
// Developer's Manual (8254x), "Register Descriptions".

#include <bit>
#include <cstdint>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/interrupts.h"
#include "nicring/receiver.h"
#include "testing/qemu/pci.h"

namespace dmamap::inline v0 {

class QemuE1000 {
 public:
  class Receiver {
   public:
    explicit Receiver(QemuE1000* nic) : nic_(nic) {}
    // ring.room: 256, 512, 1024 or 2048.
    Result<void> Start(const RingAddresses& ring) {
      if (ring.room < 256 || ring.room > 2048 || !IsPowerOfTwo(ring.room)) {
        return Error::kInvalidArgument;
      }
      nic_->SetRing(kRxRing, ring);
      // BSIZE 3 is 256 bytes, 0 is 2048.
      const auto size =
          static_cast<std::uint32_t>(11 - std::bit_width(ring.room) + 1);
      nic_->Write(kRctl, kEnable | kBroadcast | kStripCrc | size << 16);
      return Ok();
    }
    void Doorbell(std::uint32_t tail) { nic_->Write(kRxRing + 0x18, tail); }
    void Abort() { nic_->Write(kRctl, 0); }

   private:
    QemuE1000* nic_;
  };
  class Transmitter {
   public:
    explicit Transmitter(QemuE1000* nic) : nic_(nic) {}
    Result<void> Start(const RingAddresses& ring) {
      nic_->SetRing(kTxRing, ring);
      nic_->Write(kTctl, kEnable | kPadShort);
      return Ok();
    }
    void Doorbell(std::uint32_t tail) { nic_->Write(kTxRing + 0x18, tail); }
    void Abort() { nic_->Write(kTctl, 0); }

   private:
    QemuE1000* nic_;
  };

  explicit QemuE1000(PciFunction* function) : function_(function) {}
  Receiver& receiver() { return receiver_; }
  Transmitter& transmitter() { return transmitter_; }

  // --- CauseRegisters ---
  static constexpr std::uint32_t kReceiveCauses =
      1u << 4 | 1u << 6 | 1u << 7;  // RXDMT0, RXO, RXT0
  void EnableCauses(std::uint32_t bits) { Write(kIms, bits); }
  void DisableCauses(std::uint32_t bits) { Write(kImc, bits); }
  void ClearCauses(std::uint32_t bits) { Write(kIcr, bits); }

  // Missed since the beginning, the others since the last time they were asked.
  std::uint32_t GoodReceived() { return Read(0x4074); }
  std::uint32_t GoodSent() { return Read(0x4080); }
  std::uint32_t Missed() { return Read(0x4010); }

 private:
  static constexpr std::uint32_t kIcr = 0xc0;
  static constexpr std::uint32_t kIms = 0xd0;
  static constexpr std::uint32_t kImc = 0xd8;
  static constexpr std::uint32_t kRctl = 0x100;
  static constexpr std::uint32_t kTctl = 0x400;
  static constexpr std::uint32_t kRxRing = 0x2800;
  static constexpr std::uint32_t kTxRing = 0x3800;
  static constexpr std::uint32_t kEnable = 1u << 1;
  static constexpr std::uint32_t kPadShort = 1u << 3;
  static constexpr std::uint32_t kBroadcast = 1u << 15;
  static constexpr std::uint32_t kStripCrc = 1u << 26;

  std::uint32_t Read(std::uint32_t offset) {
    return function_->Read<std::uint32_t>(0, offset);
  }
  void Write(std::uint32_t offset, std::uint32_t value) {
    function_->Write<std::uint32_t>(0, offset, value);
  }
  void SetRing(std::uint32_t base, const RingAddresses& ring) {
    const std::uint64_t at = ring.descriptors.value();
    Write(base, static_cast<std::uint32_t>(at));
    Write(base + 4, static_cast<std::uint32_t>(at >> 32));
    Write(base + 8, ring.entries * 16);
    Write(base + 0x10, 0);
    Write(base + 0x18, 0);
  }

  PciFunction* function_;
  Receiver receiver_{this};
  Transmitter transmitter_{this};
};
static_assert(DoorbellPort<QemuE1000::Receiver> && CauseRegisters<QemuE1000>);
static_assert(DoorbellPort<QemuE1000::Transmitter>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_QEMU_E1000_H_
