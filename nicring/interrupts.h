// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_INTERRUPTS_H_
#define DMAMAP_NICRING_INTERRUPTS_H_

// The Interrupts of the NICs of this folder, for a Napi (napi.h): each over the
// few registers that it needs, which the driver brings.
//
//   NIC            class             acknowledges by
//   8255x          I8255xInterrupts  STAT/ACK read, what it said written back
//   8254x and      IntelInterrupts   its bits of ICR or EICR written; or not at
//     after                          all, where the NIC clears them by itself
//   virtio, INTx   VirtioLine        ISR status read, which clears it
//   virtio, MSI-X  the ring itself   nothing: a message leaves nothing pending
//
// Where a register is cleared by writing ones, no more ones are written than
// were read or than this interrupt is asked for: a cause that comes between the
// two stays pending. Thread-safety is Napi's: Acknowledge may run on several
// CPUs at once, and keeps nothing here. Wait-free, if the registers are.
//
// Sources: Intel 8255x Open Source Software Developer Manual, SCB status word
// and SCB command word; Intel 8254x Software Developer's Manual, ICR (a 1 that
// is written clears, too), IMS, IMC; Intel 82599 datasheet, EICR, EIAC, EIMS,
// EIMC; virtio 1.2, 4.1.4.5 (ISR status).

#include <concepts>
#include <cstdint>

#include "dma/version.h"
#include "nicring/napi.h"

namespace dmamap::inline v0 {

// Of an 8255x's system control block. Each has reached the NIC when it returns.
template <class P>
concept ScbRegisters = requires(P& port, std::uint8_t bits) {
  port.Mask();    // M of the command word: no interrupt
  port.Unmask();  // none of its mask bits
  // The causes that are pending: STAT/ACK, byte 1.
  { port.ReadCauses() } -> std::same_as<std::uint8_t>;
  // Writes it: a 1 clears.
  port.ClearCauses(bits);
};

// Ring: the receive ring of the NIC, which is told of its receiver. A port that
// has OnCauses(std::uint8_t) is called with what was cleared.
template <ScbRegisters Port, class Ring>
class I8255xInterrupts {
 public:
  static constexpr std::uint8_t kReceiverNotReady = 1u << 4;

  // Both must outlive it.
  I8255xInterrupts(Port* port, Ring* ring) : port_(port), ring_(ring) {}

  void Mask() { port_->Mask(); }
  void Unmask() { port_->Unmask(); }
  void Acknowledge() {
    const std::uint8_t causes = port_->ReadCauses();
    if (causes == 0) return;
    port_->ClearCauses(causes);
    if ((causes & kReceiverNotReady) != 0) ring_->OnRnr();
    if constexpr (requires { port_->OnCauses(causes); }) {
      port_->OnCauses(causes);
    }
  }

 private:
  Port* port_;
  Ring* ring_;
};

// Of an 8254x and what came after: IMS, IMC and ICR, or EIMS, EIMC and EICR.
// Each has reached the NIC when it returns.
template <class P>
concept CauseRegisters = requires(P& port, std::uint32_t bits) {
  port.EnableCauses(bits);   // IMS: a 1 unmasks
  port.DisableCauses(bits);  // IMC: a 1 masks
  port.ClearCauses(bits);    // ICR: a 1 clears
};

enum class CauseClearing : std::uint8_t {
  kByWrite,
  kByItself,  // when it sends the message: MSI-X with these bits set in EIAC
};

template <CauseRegisters Port>
class IntelInterrupts {
 public:
  // `causes`: the bits of the queues that are polled; others are left alone.
  // The port must outlive it.
  IntelInterrupts(Port* port, std::uint32_t causes,
                  CauseClearing clearing = CauseClearing::kByWrite)
      : port_(port), causes_(causes), clearing_(clearing) {}

  void Mask() { port_->DisableCauses(causes_); }
  void Unmask() { port_->EnableCauses(causes_); }
  void Acknowledge() {
    if (clearing_ == CauseClearing::kByWrite) port_->ClearCauses(causes_);
  }

 private:
  Port* port_;
  std::uint32_t causes_;
  CauseClearing clearing_;
};

// The ISR status of a virtio device whose interrupt is a line.
template <class P>
concept IsrRegister = requires(P& port) {
  // Reads and clears it: bit 0 a queue, bit 1 the configuration.
  { port.ReadIsr() } -> std::same_as<std::uint8_t>;
  // The configuration has changed. Called where Acknowledge is.
  port.OnConfigurationChange();
};

// One line serves all queues of the device, and a read clears it for all: they
// must be polled together (poll_group.h). Masked: what masks those queues, an
// RxRing or TxRing of virtio or several of them.
template <class Masked, IsrRegister Port>
class VirtioLine {
 public:
  // Both must outlive it.
  VirtioLine(Masked* queues, Port* port) : queues_(queues), port_(port) {}

  void Mask() { queues_->Mask(); }
  void Unmask() { queues_->Unmask(); }
  void Acknowledge() {
    constexpr unsigned kConfiguration = 1u << 1;
    if ((port_->ReadIsr() & kConfiguration) != 0) {
      port_->OnConfigurationChange();
    }
  }

 private:
  Masked* queues_;
  Port* port_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_INTERRUPTS_H_
