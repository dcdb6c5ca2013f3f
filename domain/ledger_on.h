// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_LEDGER_ON_H_
#define DMAMAP_DOMAIN_LEDGER_ON_H_

// LedgerMapper with its ledger. Included by domain/ledger_mapper.h alone.

#include "domain/ledger_mapper.h"

namespace dmamap::inline v0 {

template <Mapper M, class Policy>
class LedgerMapper {
  static_assert(Policy::kRecords);

 public:
  explicit LedgerMapper(M& mapper) : mapper_(mapper) {}
  LedgerMapper(const LedgerMapper&) = delete;
  LedgerMapper& operator=(const LedgerMapper&) = delete;
  // Reports leaks. REQUIRES: no call is under way; the mapper is still there or
  // all is ended.
  ~LedgerMapper() { ReportLeaks(); }

  // Before the first call, which is not followed otherwise. kInvalidArgument,
  // kNoMemory; kBusy the second time.
  Result<void> Init(const LedgerOptions& ledger,
                    const ComplaintOptions& complaints) {
    const Result<void> r = ledger_.Init(ledger);
    if (r.ok()) desk_.Init(complaints);
    return r;
  }

  // `owner` is kept, not copied: the name of a device, a ring, a driver.
  OwnedLedgerMapper<LedgerMapper> For(const char* owner) {
    return {*this, owner};
  }

  // --- A CoherentMapper, whose errors are the mapper's ---

  LookedAtMapping Map(PhysAddr buffer, std::uint64_t size, Direction direction,
                      MapAttributes attributes = MapAttributes::kNone,
                      CallSite where = CallSite::Here()) {
    return MapFor("", buffer, size, direction, attributes, where);
  }
  LookedAtMapping MapFor(const char* owner, PhysAddr buffer, std::uint64_t size,
                         Direction direction, MapAttributes attributes,
                         CallSite where) {
    Result<Mapping> m = mapper_.Map(buffer, size, direction, attributes);
    if (m.ok()) Record({*m, buffer, false, where, {}, owner}, where);
    return LookedAtMapping(std::move(m), &desk_, where);
  }

  Result<void> Unmap(const Mapping& m,
                     MapAttributes attributes = MapAttributes::kNone,
                     CallSite where = CallSite::Here()) {
    const Result<void> r = mapper_.Unmap(m, attributes);
    if (!r.ok() && !HasEnded(r.error())) {
      Refused(Misuse::kBadUnmap, m, r.error(), where);
      return r;
    }
    LedgerEntry entry;
    const bool known = ledger_.is_open() && ledger_.Remove(m, where, &entry);
    if (known && entry.mapping != m) {
      desk_.Complain({.misuse = Misuse::kBadUnmap,
                      .where = where,
                      .mapping = m,
                      .error = Error::kMismatch,
                      .entry = &entry});
    } else if (!known && KnowsAll()) {
      Refused(Misuse::kBadUnmap, m, Error::kNotMapped, where);
    }
    return r;
  }

  Result<void> SyncForCpu(const Mapping& m, std::uint64_t offset,
                          std::uint64_t size,
                          CallSite where = CallSite::Here()) {
    return Synced(mapper_.SyncForCpu(m, offset, size), m, where);
  }
  Result<void> SyncForDevice(const Mapping& m, std::uint64_t offset,
                             std::uint64_t size,
                             CallSite where = CallSite::Here()) {
    return Synced(mapper_.SyncForDevice(m, offset, size), m, where);
  }

  Result<CoherentBlock> AllocateCoherent(std::uint64_t size,
                                         CallSite where = CallSite::Here()) {
    return AllocateCoherentFor("", size, where);
  }
  Result<CoherentBlock> AllocateCoherentFor(const char* owner,
                                            std::uint64_t size,
                                            CallSite where) {
    const Result<CoherentBlock> b = mapper_.AllocateCoherent(size);
    if (b.ok()) {
      Record({AsMapping(*b), PhysAddrOf(b->cpu), true, where, {}, owner},
             where);
    }
    return b;
  }
  Result<void> FreeCoherent(const CoherentBlock& block,
                            CallSite where = CallSite::Here()) {
    // Out of the ledger first: the next block may have the same address, and
    // blocks have no tags.
    LedgerEntry entry;
    const bool known =
        ledger_.is_open() && ledger_.Remove(AsMapping(block), where, &entry);
    const Result<void> r = mapper_.FreeCoherent(block);
    if (r.ok() || HasEnded(r.error())) return r;
    if (known) {
      entry.ended = {};
      ledger_.Add(entry, [](const LedgerEntry&) {});
    }
    Refused(Misuse::kBadFree, AsMapping(block), r.error(), where);
    return r;
  }

  // --- Questions ---

  // Complains of each mapping that shares a byte with `size` bytes (not 0) from
  // `buffer`, which the caller is about to free or use otherwise; how many.
  std::uint64_t AssertIdle(PhysAddr buffer, std::uint64_t size,
                           CallSite where = CallSite::Here()) {
    const Result<PhysRange> bytes = PhysRange::FromSize(buffer, size);
    if (!bytes.ok() || !ledger_.is_open()) return 0;
    std::uint64_t count = 0;
    ledger_.ForEachAt(*bytes, [&](const LedgerEntry& e) {
      ++count;
      desk_.Complain({.misuse = Misuse::kStillMapped,
                      .where = where,
                      .mapping = e.mapping,
                      .entry = &e});
    });
    return count;
  }
  // Complains of each live mapping; how many.
  std::uint64_t ReportLeaks() {
    std::uint64_t count = 0;
    ledger_.ForEach([&](const LedgerEntry& e) {
      ++count;
      desk_.Complain({.misuse = Misuse::kLeak,
                      .where = e.made,
                      .mapping = e.mapping,
                      .entry = &e});
    });
    return count;
  }
  // How many complaints there were.
  std::uint64_t complaints(Misuse misuse) const { return desk_.count(misuse); }
  LedgerStats stats() const { return ledger_.stats(); }

  // REQUIRES: no call is under way.
  bool CheckInvariants() const { return ledger_.CheckInvariants(); }

 private:
  // Of Unmap and FreeCoherent: these leave everything as it was.
  static bool HasEnded(Error e) {
    return e != Error::kNotMapped && e != Error::kMismatch &&
           e != Error::kBusy && e != Error::kInvalidArgument &&
           e != Error::kShutDown && e != Error::kForeign &&
           e != Error::kDoubleFree && e != Error::kOutOfRange;
  }
  static Mapping AsMapping(const CoherentBlock& b) {
    return {b.iova, b.size, Direction::kBidirectional, 0};
  }

  // Everything live is in the ledger.
  bool KnowsAll() const {
    return ledger_.is_open() && ledger_.stats().dropped == 0;
  }
  Result<void> Synced(Result<void> r, const Mapping& m, CallSite where) {
    LedgerEntry entry;
    if (!r.ok()) {
      Refused(Misuse::kBadSync, m, r.error(), where);
    } else if (KnowsAll() && !ledger_.FindSame(m, &entry)) {
      Refused(Misuse::kBadSync, m, Error::kNotMapped, where);
    }
    return r;
  }
  void Record(const LedgerEntry& entry, CallSite where) {
    if (!ledger_.is_open()) return;
    ledger_.Add(entry, [&](const LedgerEntry& other) {
      desk_.Complain({.misuse = Misuse::kOverlap,
                      .where = where,
                      .mapping = entry.mapping,
                      .entry = &entry,
                      .other = &other});
    });
  }
  // Another call at work on the mapping (kBusy) and a mapper that is closed are
  // no misuse by themselves.
  void Refused(Misuse misuse, const Mapping& m, Error error, CallSite where) {
    if (error == Error::kBusy || error == Error::kShutDown) return;
    LedgerEntry entry;
    const bool known = ledger_.is_open() && (ledger_.FindEnded(m, &entry) ||
                                             ledger_.Find(m.iova, &entry));
    desk_.Complain({.misuse = misuse,
                    .where = where,
                    .mapping = m,
                    .error = error,
                    .entry = known ? &entry : nullptr});
  }

  M& mapper_;
  internal::ComplaintDesk desk_;
  Ledger<typename Policy::LockType> ledger_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_LEDGER_ON_H_
