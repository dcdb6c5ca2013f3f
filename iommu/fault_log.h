// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOMMU_FAULT_LOG_H_
#define DMAMAP_IOMMU_FAULT_LOG_H_

// What a VT-d unit says about accesses that it blocked.
//
// Source: VT-d Architecture Specification, revision 5.10, sections 7.2.1,
// "Primary Fault Logging", and 11.4.7.6, "Fault Recording Registers" (numbers
// by its contents; the bits are those of QEMU 7.2).

#include <cstdint>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/result.h"
#include "dma/version.h"
#include "iommu/vtd_registers.h"

namespace dmamap::inline v0 {

// A PCI function: bus, device, function.
class PciSource {
 public:
  constexpr PciSource() = default;
  constexpr explicit PciSource(std::uint16_t id) : id_(id) {}
  constexpr PciSource(unsigned bus, unsigned device, unsigned function)
      : id_(static_cast<std::uint16_t>((bus & 0xff) << 8 | (device & 31) << 3 |
                                       (function & 7))) {}
  constexpr std::uint16_t id() const { return id_; }
  constexpr unsigned bus() const { return id_ >> 8; }
  constexpr unsigned devfn() const { return id_ & 0xff; }
  friend constexpr bool operator==(PciSource, PciSource) = default;

 private:
  std::uint16_t id_ = 0;
};

// An access that was blocked.
struct IommuFault {
  Iova page = {};  // the first byte of the page
  PciSource source;
  std::uint8_t reason = 0;  // the unit's: 5 no write, 6 no read permission
  Permission access = Permission::kNone;  // kRead or kWrite
};

struct FaultSummary {
  std::uint32_t faults = 0;
  bool overflow = false;  // there were more, which are lost
};

// Hands each recorded fault to f(const IommuFault&), oldest first, and clears
// it, then the overflow. At most as many as there are registers; what comes
// meanwhile may be among them. kDevice when the unit does not answer (all
// ones), also when it stops to. REQUIRES: one call for a unit at a time.
template <RegisterFile Registers, class F>
Result<FaultSummary> ReadFaults(Registers& registers, const VtdCapabilities& c,
                                F&& f) {
  const std::uint32_t status = registers.Read32(vtd::kFaultStatus);
  if (status == UINT32_MAX) return Error::kDevice;
  FaultSummary summary;
  summary.overflow = (status & vtd::kFaultOverflow) != 0;
  if ((status & (vtd::kFaultPending | vtd::kFaultOverflow)) == 0) {
    return summary;
  }
  const std::uint32_t first = (status >> 8 & 0xff) % c.fault_records;  // FRI
  for (std::uint32_t i = 0; i < c.fault_records; ++i) {
    const std::uint32_t at =
        c.fault_offset + (first + i) % c.fault_records * 16;
    const std::uint64_t high = registers.Read64(at + 8);
    if (high >> 63 == 0) break;  // F
    const std::uint64_t low = registers.Read64(at);
    // All ones have F, and reserved bits that no record has.
    if (high == UINT64_MAX) return Error::kDevice;
    registers.Write32(at + 12, 1u << 31);
    ++summary.faults;
    f(IommuFault{
        Iova(low & ~PageSize().mask()),
        PciSource(static_cast<std::uint16_t>(high & 0xffff)),
        static_cast<std::uint8_t>(high >> 32 & 0xff),
        (high >> 62 & 1) != 0 ? Permission::kRead : Permission::kWrite});
  }
  if (summary.overflow) {
    registers.Write32(vtd::kFaultStatus, vtd::kFaultOverflow);
  }
  return summary;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOMMU_FAULT_LOG_H_
