// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOMMU_VTD_CONTEXT_H_
#define DMAMAP_IOMMU_VTD_CONTEXT_H_

// Which function goes through which space's tables: the root and context tables
// of a VtdUnit. Included by vtd_unit.h alone.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

#include "iommu/vtd_unit.h"

namespace dmamap::inline v0 {

template <RegisterFile R, BusMemory M, class P>
auto VtdUnit<R, M, P>::NewTables() -> Result<Tables*> {
  const Result<std::byte*> made = memory_->Allocate(PageSize(), 1);
  if (!made.ok()) return made.error();
  const auto bus =
      memory_->ToBus(*PhysRange::FromSize(PhysAddrOf(*made), sizeof(Tables)));
  if (!bus.ok() ||
      (bus->value() + sizeof(Tables) - 1) >> options_.bus_bits != 0) {
    memory_->Free(*made, PageSize(), 1);
    return bus.ok() ? Error::kOutOfRange : bus.error();
  }
  auto* const tables = new (*made) Tables{};
  if constexpr (WritesBack<M>) {
    if (!capabilities_.snoops) memory_->WriteBack(*made, sizeof(Tables));
  }
  return tables;
}

// The half with the present bit last when it is set, first when it is cleared:
// hardware never sees a half of each.
template <RegisterFile R, BusMemory M, class P>
void VtdUnit<R, M, P>::Store(std::array<std::atomic<std::uint64_t>, 2>& entry,
                             std::uint64_t low, std::uint64_t high) {
  const auto flush = [&] {
    if constexpr (WritesBack<M>) {
      if (!capabilities_.snoops) {
        memory_->WriteBack(reinterpret_cast<const std::byte*>(&entry),
                           sizeof entry);
      }
    }
    DmaWriteBarrier();
  };
  // relaxed, all: the barrier orders them for hardware, the lock for the CPU.
  if ((low & kPresent) == 0) entry[0].store(low, std::memory_order_relaxed);
  flush();
  entry[1].store(high, std::memory_order_relaxed);
  flush();
  entry[0].store(low, std::memory_order_relaxed);
  flush();
}

template <RegisterFile R, BusMemory M, class P>
Result<std::uint16_t> VtdUnit<R, M, P>::TakeId() {
  if (root_ == nullptr) return Error::kShutDown;
  const Guard<LockType> guard(lock_);
  for (std::uint16_t id = 1; id <= kMostSpaces && id < capabilities_.domains;
       ++id) {
    const std::uint64_t bit = std::uint64_t{1} << id % 64;
    if ((ids_[id / 64] & bit) != 0) continue;
    ids_[id / 64] |= bit;
    return id;
  }
  return Error::kLimit;
}

template <RegisterFile R, BusMemory M, class P>
Result<void> VtdUnit<R, M, P>::Attach(PciSource source, std::uint16_t id,
                                      PhysAddr tables, unsigned levels) {
  const Result<Tables*> fresh = NewTables();  // most often not needed
  if (!fresh.ok()) return fresh.error();
  Tables* unused = *fresh;
  Result<void> done;
  {
    const Guard<LockType> guard(lock_);
    done = ForgetStaleContexts();
    Tables* contexts = ContextsOf(source.bus());
    if (done.ok() && contexts == nullptr) {
      contexts = unused;
      unused = nullptr;
      Store(root_->entries[source.bus()], BusOf(contexts).value() | kPresent,
            0);
    }
    if (done.ok()) {
      auto& entry = contexts->entries[source.devfn()];
      // relaxed: the lock orders it.
      if ((entry[0].load(std::memory_order_relaxed) & kPresent) != 0) {
        done = Error::kBusy;
      } else {
        // Translation type 0: untranslated requests by these tables. AW 1 is
        // three levels.
        Store(entry, tables.value() | kPresent,
              (levels - 2) | std::uint64_t{id} << 8);
      }
    }
  }
  if (unused != nullptr) FreeTables(unused);
  if (!done.ok()) return done;
  if (capabilities_.needs_buffer_flush) done = FlushWriteBuffer();
  // An absent context is cached under domain 0, if at all (caching mode).
  if (done.ok() && capabilities_.caches_absent) {
    const InvalidationDescriptor work[] = {vtd::ForgetContext(0, source.id()),
                                           vtd::ForgetDomain(id)};
    done = Submit(work);
  }
  if (!done.ok()) (void)Detach(source, id).ok();
  return done;
}

template <RegisterFile R, BusMemory M, class P>
Result<void> VtdUnit<R, M, P>::Detach(PciSource source, std::uint16_t id) {
  if (root_ == nullptr) return Error::kShutDown;
  const Guard<LockType> guard(lock_);
  const bool stale = contexts_stale_;
  if (const auto forgot = ForgetStaleContexts(); !forgot.ok()) return forgot;
  Tables* const contexts = ContextsOf(source.bus());
  const Result<void> none = stale ? Ok() : Result<void>(Error::kNotMapped);
  if (contexts == nullptr) return none;
  auto& entry = contexts->entries[source.devfn()];
  // relaxed, both: the lock orders them.
  const bool here =
      (entry[0].load(std::memory_order_relaxed) & kPresent) != 0 &&
      (entry[1].load(std::memory_order_relaxed) >> 8 & 0xffff) == id;
  if (!here) return none;
  Store(entry, 0, 0);
  const InvalidationDescriptor work[] = {vtd::ForgetContext(id, source.id()),
                                         vtd::ForgetDomain(id)};
  const auto done = Submit(work);
  contexts_stale_ = !done.ok();
  return done;
}

template <RegisterFile R, BusMemory M, class P>
Result<void> VtdUnit<R, M, P>::DetachAll(std::uint16_t id) {
  if (root_ == nullptr) return Error::kShutDown;
  const Guard<LockType> guard(lock_);
  for (unsigned bus = 0; bus < 256; ++bus) {
    Tables* const contexts = ContextsOf(bus);
    if (contexts == nullptr) continue;
    for (auto& entry : contexts->entries) {
      // relaxed, both: the lock orders them.
      if ((entry[0].load(std::memory_order_relaxed) & kPresent) != 0 &&
          (entry[1].load(std::memory_order_relaxed) >> 8 & 0xffff) == id) {
        Store(entry, 0, 0);
      }
    }
  }
  // Also when there was none: a Detach before may have failed.
  const InvalidationDescriptor work[] = {vtd::ForgetContexts(),
                                         vtd::ForgetDomain(id)};
  const auto done = Submit(work);
  contexts_stale_ = contexts_stale_ || !done.ok();
  return done;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOMMU_VTD_CONTEXT_H_
