// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOMMU_VTD_REGISTERS_H_
#define DMAMAP_IOMMU_VTD_REGISTERS_H_

// The registers of an Intel VT-d remapping unit: where they are, what their
// bits mean, and how a driver reaches them.
//
// Source: Intel Virtualization Technology for Directed I/O, Architecture
// Specification, revision 5.10, chapter 11, "Register Descriptions":
// CAP 11.4.2, ECAP 11.4.3, GCMD 11.4.4.1, GSTS 11.4.4.2, RTADDR 11.4.5,
// FSTS 11.4.7.1, FRCD 11.4.7.6, IQH, IQT, IQA 11.4.9.1 to 11.4.9.3. Offsets and
// bits are those that QEMU 7.2 answers to, and the capability fields agree with
// VirtualBox's description of them; the chapter's own tables were not compared.

#include <concepts>
#include <cstdint>

#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

// Little-endian registers by their byte offset. Each function has reached the
// unit when it returns, after all stores to memory that came before it (on x86
// an uncached access is enough). Thread-safe for different registers.
template <class R>
concept RegisterFile = requires(R& r, std::uint32_t offset, std::uint32_t low,
                                std::uint64_t wide) {
  { r.Read32(offset) } -> std::same_as<std::uint32_t>;
  { r.Read64(offset) } -> std::same_as<std::uint64_t>;
  r.Write32(offset, low);
  r.Write64(offset, wide);
};

namespace vtd {

inline constexpr std::uint32_t kVersion = 0x00;
inline constexpr std::uint32_t kCapability = 0x08;          // 64 bits
inline constexpr std::uint32_t kExtendedCapability = 0x10;  // 64 bits
inline constexpr std::uint32_t kGlobalCommand = 0x18;
inline constexpr std::uint32_t kGlobalStatus = 0x1c;
inline constexpr std::uint32_t kRootTable = 0x20;  // 64 bits
inline constexpr std::uint32_t kFaultStatus = 0x34;
inline constexpr std::uint32_t kQueueHead = 0x80;     // 64 bits
inline constexpr std::uint32_t kQueueTail = 0x88;     // 64 bits
inline constexpr std::uint32_t kQueueAddress = 0x90;  // 64 bits

// Of the global command and status registers: the same bit asks and tells.
inline constexpr std::uint32_t kTranslation = 1u << 31;
inline constexpr std::uint32_t kSetRootTable = 1u << 30;
inline constexpr std::uint32_t kWriteBufferFlush = 1u << 27;
inline constexpr std::uint32_t kQueuedInvalidation = 1u << 26;
// What is on must be written again with each command; the others, which act
// once, must not: bits 30, 29, 27 and 24.
inline constexpr std::uint32_t kLasting = 0x96ff'ffff;

// Of the fault status register. Writing 1 clears all of them.
inline constexpr std::uint32_t kFaultOverflow = 1u << 0;    // PFO
inline constexpr std::uint32_t kFaultPending = 1u << 1;     // PPF; read-only
inline constexpr std::uint32_t kQueueError = 1u << 4;       // IQE
inline constexpr std::uint32_t kCompletionError = 1u << 5;  // ICE
inline constexpr std::uint32_t kTimeoutError = 1u << 6;     // ITE
inline constexpr std::uint32_t kQueueErrors =
    kQueueError | kCompletionError | kTimeoutError;

}  // namespace vtd

// What a unit can do. A plain value.
struct VtdCapabilities {
  std::uint64_t domains = 0;  // ids 0 to domains - 1; 0 is not used here
  bool three_levels = false;  // SAGAW
  bool four_levels = false;
  unsigned address_bits = 0;  // MGAW: of I/O addresses
  bool two_mib = false;       // SLLPS
  bool one_gib = false;
  bool caches_absent = false;       // CM: "not mapped" is remembered too
  bool needs_buffer_flush = false;  // RWBF
  bool page_selective = false;      // PSI
  unsigned most_mask = 0;           // MAMV: 2^n pages in one invalidation
  // DWD, DRD: an invalidation waits for accesses under way (6.5.4; always in
  // units of major version 2). Without, it may be over before one that was
  // translated has reached memory: old units; their embedder has to know.
  bool drains_writes = false;
  bool drains_reads = false;
  std::uint32_t fault_offset = 0;   // FRO, bytes
  std::uint32_t fault_records = 0;  // NFR
  bool snoops = false;              // ECAP.C: walks see the CPU's caches
  bool queue = false;               // ECAP.QI

  static constexpr VtdCapabilities From(std::uint64_t cap, std::uint64_t ecap) {
    VtdCapabilities c;
    c.domains = std::uint64_t{1} << (4 + 2 * Field(cap, 0, 3));
    c.three_levels = Field(cap, 9, 1) != 0;
    c.four_levels = Field(cap, 10, 1) != 0;
    c.address_bits = static_cast<unsigned>(Field(cap, 16, 6)) + 1;
    c.two_mib = Field(cap, 34, 1) != 0;
    c.one_gib = Field(cap, 35, 1) != 0;
    c.caches_absent = Field(cap, 7, 1) != 0;
    c.needs_buffer_flush = Field(cap, 4, 1) != 0;
    c.page_selective = Field(cap, 39, 1) != 0;
    c.most_mask = static_cast<unsigned>(Field(cap, 48, 6));
    c.drains_writes = Field(cap, 54, 1) != 0;
    c.drains_reads = Field(cap, 55, 1) != 0;
    c.fault_offset = static_cast<std::uint32_t>(Field(cap, 24, 10)) * 16;
    c.fault_records = static_cast<std::uint32_t>(Field(cap, 40, 8)) + 1;
    c.snoops = Field(ecap, 0, 1) != 0;
    c.queue = Field(ecap, 1, 1) != 0;
    return c;
  }

 private:
  static constexpr std::uint64_t Field(std::uint64_t word, unsigned first,
                                       unsigned bits) {
    return (word >> first) & ((std::uint64_t{1} << bits) - 1);
  }
};

namespace vtd {

// Sets or clears a lasting bit, or does a thing that acts once, and waits until
// the unit says so, for at most `polls` looks. kDevice: it does not.
// REQUIRES: no other call for this unit is under way.
template <RegisterFile R>
Result<void> Command(R& registers, std::uint32_t bit, bool on,
                     std::uint32_t polls) {
  const std::uint32_t now = registers.Read32(kGlobalStatus) & kLasting;
  registers.Write32(kGlobalCommand, on ? now | bit : now & ~bit);
  // The flush bit of the status is set while the flush is under way.
  const bool wanted = bit == kWriteBufferFlush ? false : on;
  for (std::uint32_t i = 0; i < polls; ++i) {
    if (((registers.Read32(kGlobalStatus) & bit) != 0) == wanted) return Ok();
    CpuRelax();
  }
  return Error::kDevice;
}

}  // namespace vtd
}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOMMU_VTD_REGISTERS_H_
