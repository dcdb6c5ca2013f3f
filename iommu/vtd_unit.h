// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOMMU_VTD_UNIT_H_
#define DMAMAP_IOMMU_VTD_UNIT_H_

// VtdUnit: one remapping unit of Intel VT-d, in legacy mode: its root and
// context tables, its invalidation queue, its fault records.
//
//   VtdUnit<MyRegisters, MyMemory> unit;
//   unit.Init(&registers, &memory);
//   ... spaces (iommu/vtd.h) are made, and functions attached to them ...
//   unit.Enable();              // from now on only what is mapped is reached
//
// Not done here: scalable mode, interrupt remapping, device TLBs (ATS),
// pass-through, the fault interrupt (call ReadFaults from its handler's
// bottom half, or poll).
//
// Threads: all calls but Init and the destructor at any time. Commands and
// context tables are under one lock, for setup; invalidations are not.
//
// Source: VT-d Architecture Specification, revision 5.10: root and context
// entries 9.1 and 9.3, changes of the root table 6.6, caching mode 6.1, what to
// invalidate after which change 6.5.3.3 (table 28), write-buffer flushing 6.8.

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "dma/address.h"
#include "dma/barrier.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iommu/bus_memory.h"
#include "iommu/fault_log.h"
#include "iommu/invalidation_queue.h"
#include "iommu/second_level.h"
#include "iommu/vtd_registers.h"

namespace dmamap::inline v0 {

struct VtdUnitOptions {
  // Looks at a register, or at memory, before the unit counts as dead.
  std::uint32_t polls = 1u << 22;
  // Take over a unit that somebody (the firmware) has left translating; else
  // Init returns kBusy for it. Until Enable no translation is done then.
  bool take_over = false;
  unsigned bus_bits = 52;  // of bus addresses, as the firmware says (DMAR)
};

template <RegisterFile Registers, BusMemory Memory,
          class Policies = SecondLevelPolicies>
class VtdUnit {
  using LockType = typename Policies::LockType;

 public:
  using RegistersType = Registers;
  using MemoryType = Memory;
  using PoliciesType = Policies;
  // Spaces at a time, whatever more the unit can do.
  static constexpr std::uint32_t kMostSpaces = 255;

  VtdUnit() = default;
  VtdUnit(const VtdUnit&) = delete;
  VtdUnit& operator=(const VtdUnit&) = delete;
  // REQUIRES: no space is left. Ends the translation, so what its devices do
  // from now on is theirs. A unit that does not obey keeps its memory.
  ~VtdUnit() { Release(); }

  // kBusy the second time, and see take_over; kUnsupported: no invalidation
  // queue, no table of 3 or 4 levels, or it does not snoop and Memory cannot
  // write back; kDevice; as the memory fails.
  Result<void> Init(Registers* registers, Memory* memory,
                    const VtdUnitOptions& options = {});

  Result<void> Enable() { return SetTranslation(true); }
  Result<void> Disable() { return SetTranslation(false); }

  const VtdCapabilities& capabilities() const { return capabilities_; }
  const VtdUnitOptions& options() const { return options_; }
  Memory& memory() { return *memory_; }
  InvalidationCounts counts() const { return queue_.counts(); }

  // fault_log.h. f is called under a lock (Policies::LockType): it must be
  // short, and not ask for faults itself.
  template <class F>
  Result<FaultSummary> ReadFaults(F&& f) {
    if (root_ == nullptr) return Error::kShutDown;
    const Guard<LockType> guard(fault_lock_);
    return dmamap::ReadFaults(*registers_, capabilities_, f);
  }

  // Makes a broken queue anew and forgets everything. Spaces are to invalidate
  // what they were refused once more. kDevice.
  Result<void> Recover() {
    if (root_ == nullptr) return Error::kShutDown;
    const Guard<LockType> guard(lock_);
    const auto started = queue_.Start();
    if (!started.ok()) return started;
    const auto forgot = ForgetEverything();
    if (forgot.ok()) contexts_stale_ = false;
    return forgot;
  }

  bool CheckInvariants() const { return queue_.CheckInvariants(); }

  // --- For spaces ---

  // An id for a space; kLimit.
  Result<std::uint16_t> TakeId();
  void GiveId(std::uint16_t id) {
    const Guard<LockType> guard(lock_);
    ids_[id / 64] &= ~(std::uint64_t{1} << id % 64);
  }
  // kBusy when it is attached; as the memory fails; kDevice, also while the
  // unit may remember a function that was detached.
  Result<void> Attach(PciSource source, std::uint16_t id, PhysAddr tables,
                      unsigned levels);
  // kNotMapped when it is not attached to `id`. kDevice: it may still reach;
  // the same call, or Recover, tries again.
  Result<void> Detach(PciSource source, std::uint16_t id);
  // Detaches all that is attached to `id`.
  Result<void> DetachAll(std::uint16_t id);

  Result<void> Submit(std::span<const InvalidationDescriptor> work) {
    return queue_.Submit(work);
  }
  // For units that hold back writes to tables (RWBF).
  Result<void> FlushWriteBuffer() {
    if (root_ == nullptr) return Error::kShutDown;
    const Guard<LockType> guard(lock_);
    return vtd::Command(*registers_, vtd::kWriteBufferFlush, true,
                        options_.polls);
  }

 private:
  // Of 256 entries of 16 bytes each. Hardware reads them.
  struct Tables {
    std::array<std::array<std::atomic<std::uint64_t>, 2>, 256> entries;
  };
  static_assert(sizeof(Tables) == 4096);
  static constexpr std::uint64_t kPresent = 1;

  Result<Tables*> NewTables();
  void FreeTables(Tables* tables) {
    memory_->Free(reinterpret_cast<std::byte*>(tables), PageSize(), 1);
  }
  PhysAddr BusOf(const Tables* tables) const {
    return *memory_->ToBus(
        *PhysRange::FromSize(PhysAddrOf(tables), sizeof *tables));
  }
  Tables* ContextsOf(unsigned bus) const {
    // relaxed: the lock orders it.
    const std::uint64_t entry =
        root_->entries[bus][0].load(std::memory_order_relaxed);
    if ((entry & kPresent) == 0) return nullptr;
    return reinterpret_cast<Tables*>(
        memory_->FromBus(PhysAddr(entry & TableEntry::kAddress)));
  }
  void Store(std::array<std::atomic<std::uint64_t>, 2>& entry,
             std::uint64_t low, std::uint64_t high);
  Result<void> ForgetEverything() {
    const InvalidationDescriptor work[] = {vtd::ForgetContexts(),
                                           vtd::ForgetAll()};
    return queue_.Submit(work);
  }
  Result<void> SetTranslation(bool on) {
    if (root_ == nullptr) return Error::kShutDown;
    const Guard<LockType> guard(lock_);
    return vtd::Command(*registers_, vtd::kTranslation, on, options_.polls);
  }
  // What a Detach could not make the unit forget. REQUIRES: lock_.
  Result<void> ForgetStaleContexts() {
    if (!contexts_stale_) return Ok();
    const auto forgot = ForgetEverything();
    if (forgot.ok()) contexts_stale_ = false;
    return forgot;
  }
  Result<void> Begin();
  void Release();

  Registers* registers_ = nullptr;
  Memory* memory_ = nullptr;
  VtdUnitOptions options_;
  VtdCapabilities capabilities_;
  InvalidationQueue<Registers, Memory, Policies> queue_;
  LockType lock_;        // commands, root_ and what is below it, the next two
  LockType fault_lock_;  // fault records
  Tables* root_ = nullptr;
  std::array<std::uint64_t, 4> ids_{1};  // 0 is never a space's
  bool contexts_stale_ = false;
};

template <RegisterFile R, BusMemory M, class P>
Result<void> VtdUnit<R, M, P>::Init(R* registers, M* memory,
                                    const VtdUnitOptions& options) {
  if (root_ != nullptr) return Error::kBusy;
  if (registers == nullptr || memory == nullptr || options.polls == 0) {
    return Error::kInvalidArgument;
  }
  const std::uint64_t cap = registers->Read64(vtd::kCapability);
  const std::uint64_t ecap = registers->Read64(vtd::kExtendedCapability);
  if (cap == UINT64_MAX || ecap == UINT64_MAX) return Error::kDevice;  // absent
  const auto c = VtdCapabilities::From(cap, ecap);
  if (!c.queue || !(c.three_levels || c.four_levels) ||
      (!c.snoops && !WritesBack<M>)) {
    return Error::kUnsupported;
  }
  const bool is_on =
      (registers->Read32(vtd::kGlobalStatus) & vtd::kTranslation) != 0;
  if (is_on && !options.take_over) return Error::kBusy;
  registers_ = registers;
  memory_ = memory;
  options_ = options;
  capabilities_ = c;
  const auto queued =
      queue_.Init(registers, memory, c.snoops, options.polls, options.bus_bits);
  if (!queued.ok()) return queued;
  const Result<Tables*> root = NewTables();
  if (!root.ok()) {
    queue_.Free();
    return root.error();
  }
  root_ = *root;
  const auto begun = Begin();
  if (!begun.ok()) Release();
  return begun;
}

template <RegisterFile R, BusMemory M, class P>
Result<void> VtdUnit<R, M, P>::Begin() {
  auto done =
      vtd::Command(*registers_, vtd::kTranslation, false, options_.polls);
  if (!done.ok()) return done;
  registers_->Write64(vtd::kRootTable, BusOf(root_).value());  // TTM 0: legacy
  done = vtd::Command(*registers_, vtd::kSetRootTable, true, options_.polls);
  if (done.ok()) done = queue_.Start();
  return done.ok() ? ForgetEverything() : done;
}

template <RegisterFile R, BusMemory M, class P>
void VtdUnit<R, M, P>::Release() {
  if (root_ == nullptr) return;
  // Both, or the unit may still read there.
  const auto off =
      vtd::Command(*registers_, vtd::kTranslation, false, options_.polls);
  if (queue_.Stop().ok() && off.ok()) {
    queue_.Free();
    for (unsigned bus = 0; bus < 256; ++bus) {
      if (Tables* const contexts = ContextsOf(bus)) FreeTables(contexts);
    }
    FreeTables(root_);
  }
  root_ = nullptr;
}

}  // namespace dmamap::inline v0

#include "iommu/vtd_context.h"  // IWYU pragma: export

#endif  // DMAMAP_IOMMU_VTD_UNIT_H_
