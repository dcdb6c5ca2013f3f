// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_QEMU_EDU_H_
#define DMAMAP_TESTING_QEMU_EDU_H_

// QEMU's teaching device: one DMA engine between memory and 4 KiB of its own.
// A transfer takes 100 ms.
//
// Source: QEMU, docs/specs/edu.rst. QEMU 7.2 ends itself for a transfer that
// reaches the last byte of the device's memory: at most kMostBytes.

#include <cstdint>

#include "dma/address.h"
#include "dma/version.h"
#include "testing/qemu/pci.h"

namespace dmamap::inline v0 {

class QemuEdu {
 public:
  static constexpr std::uint64_t kMostBytes = 4095;
  static constexpr const char* kArgument = "edu,addr=7,dma_mask=0xffffffff";

  explicit QemuEdu(PciFunction* function) : function_(function) {}

  enum class Way { kIn, kOut };  // as the device sees it: from memory, to it
  // Begins a transfer; `interrupt`: an interrupt tells its end. REQUIRES: none
  // is under way.
  void Begin(Way way, Iova memory, std::uint64_t bytes, bool interrupt) {
    const bool in = way == Way::kIn;
    Write(0x80, in ? memory.value() : kBuffer);
    Write(0x88, in ? kBuffer : memory.value());
    Write(0x90, bytes);
    Write(0x98, 1u | (in ? 0u : 2u) | (interrupt ? 4u : 0u));
  }
  bool IsDone() { return (function_->Read<std::uint64_t>(0, 0x98) & 1) == 0; }
  void AcknowledgeInterrupt() {
    function_->Write<std::uint32_t>(0, 0x64,
                                    function_->Read<std::uint32_t>(0, 0x24));
  }
  std::uint32_t id() { return function_->Read<std::uint32_t>(0, 0); }

 private:
  static constexpr std::uint64_t kBuffer = 0x40000;
  void Write(std::uint64_t offset, std::uint64_t value) {
    function_->Write<std::uint64_t>(0, offset, value);
  }
  PciFunction* function_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_QEMU_EDU_H_
