// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_LEDGER_OFF_H_
#define DMAMAP_DOMAIN_LEDGER_OFF_H_

// LedgerMapper without a ledger: a pointer to the mapper. Included by
// domain/ledger_mapper.h alone.

#include "domain/ledger_mapper.h"

namespace dmamap::inline v0 {

template <Mapper M>
class LedgerMapper<M, LedgerOff> {
 public:
  explicit LedgerMapper(M& mapper) : mapper_(&mapper) {}

  Result<void> Init(const LedgerOptions&, const ComplaintOptions&) {
    return Ok();
  }
  LedgerMapper For(const char*) const { return *this; }

  [[gnu::always_inline]] Result<Mapping> Map(
      PhysAddr buffer, std::uint64_t size, Direction direction,
      MapAttributes attributes = MapAttributes::kNone) {
    return mapper_->Map(buffer, size, direction, attributes);
  }
  [[gnu::always_inline]] Result<void> Unmap(
      const Mapping& m, MapAttributes attributes = MapAttributes::kNone) {
    return mapper_->Unmap(m, attributes);
  }
  [[gnu::always_inline]] Result<void> SyncForCpu(const Mapping& m,
                                                 std::uint64_t offset,
                                                 std::uint64_t size) {
    return mapper_->SyncForCpu(m, offset, size);
  }
  [[gnu::always_inline]] Result<void> SyncForDevice(const Mapping& m,
                                                    std::uint64_t offset,
                                                    std::uint64_t size) {
    return mapper_->SyncForDevice(m, offset, size);
  }
  Result<CoherentBlock> AllocateCoherent(std::uint64_t size) {
    return mapper_->AllocateCoherent(size);
  }
  Result<void> FreeCoherent(const CoherentBlock& block) {
    return mapper_->FreeCoherent(block);
  }

  std::uint64_t AssertIdle(PhysAddr, std::uint64_t) const { return 0; }
  std::uint64_t ReportLeaks() { return 0; }
  std::uint64_t complaints(Misuse) const { return 0; }
  LedgerStats stats() const { return {}; }
  bool CheckInvariants() const { return true; }

 private:
  M* mapper_;
};
static_assert(Mapper<LedgerMapper<IdentityMapper, LedgerOff>>);
static_assert(sizeof(LedgerMapper<IdentityMapper, LedgerOff>) == sizeof(void*));

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_LEDGER_OFF_H_
