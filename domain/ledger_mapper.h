// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_LEDGER_MAPPER_H_
#define DMAMAP_DOMAIN_LEDGER_MAPPER_H_

// LedgerMapper: a Mapper in front of another one, of any kind, that keeps a
// ledger of what is mapped and complains of what drivers do wrong, with the
// line of the program where it was mapped and the one where it went wrong:
//
//   Domain<> domain;
//   LedgerMapper<Domain<>> dma(domain);
//   dma.Init({}, {.on_complaint = Print});
//   auto rx = dma.For("rx ring 0");   // a Mapper: give it to the ring
//
//   kBadUnmap, kBadSync, kBadFree   the mapper refused, or keeps no record and
//            the ledger knows better: ended twice (and where the first time),
//            wrong size, wrong direction, outside, never mapped
//   kOverlap the bytes are mapped already, and a device may write to them
//            through one of the two: what is copied back last wins
//   kUnlooked a Map's result was dropped, or its mapping taken, without ok()
//   kStillMapped AssertIdle of a buffer that is not: about to be freed
//   kLeak    live at ReportLeaks, and when the ledger goes
//
// LedgerMapper<M, LedgerOff> has the same interface and is a pointer to the
// mapper: its calls are the mapper's. So a driver is written once.
//
// The mapper's own answers are not changed. What the ledger is too full to hold
// is passed on and not followed (LedgerStats::dropped). Thread-safe as the
// mapper is; the ledger takes short locks. Complaints come without a lock, in
// the thread of the call, before it returns.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "domain/call_site.h"
#include "domain/ledger.h"

namespace dmamap::inline v0 {

enum class Misuse : std::uint8_t {
  kBadUnmap,
  kBadSync,
  kBadFree,
  kOverlap,
  kUnlooked,
  kStillMapped,
  kLeak,
};
inline constexpr std::size_t kMisuses = 7;

constexpr const char* ToString(Misuse m) {
  constexpr const char* kNames[kMisuses] = {
      "bad unmap",       "bad sync",     "bad free", "overlapping mappings",
      "unlooked result", "still mapped", "leak"};
  const auto i = static_cast<std::size_t>(m);
  return i < kMisuses ? kNames[i] : "?";
}

// What is wrong. The pointers are good during the call alone.
struct Complaint {
  Misuse misuse = Misuse::kLeak;
  CallSite where;                      // of the call that it is about
  Mapping mapping;                     // as the caller gave it, or got it
  Error error = Error::kMismatch;      // what is wrong with a bad call
  const LedgerEntry* entry = nullptr;  // the mapping meant; null: unknown
  const LedgerEntry* other = nullptr;  // kOverlap: the one that was there
};

struct ComplaintOptions {
  // Called for each complaint, from any thread, until `most` were made; must
  // not use the mapper. Null: they are counted only.
  void (*on_complaint)(void* context, const Complaint&) = nullptr;
  void* context = nullptr;
  std::uint64_t most = ~std::uint64_t{0};
};

// Policies of LedgerMapper.
struct LedgerOn {
  static constexpr bool kRecords = true;
  using LockType = SpinLock;
};
struct LedgerOff {
  static constexpr bool kRecords = false;
};

namespace internal {

// Counts complaints and passes them on.
class ComplaintDesk {
 public:
  void Init(const ComplaintOptions& options) { options_ = options; }
  void Complain(const Complaint& c) {
    // relaxed throughout: counters.
    counts_[static_cast<std::size_t>(c.misuse)].fetch_add(
        1, std::memory_order_relaxed);
    if (options_.on_complaint == nullptr ||
        told_.fetch_add(1, std::memory_order_relaxed) >= options_.most) {
      return;
    }
    options_.on_complaint(options_.context, c);
  }
  std::uint64_t count(Misuse m) const {
    return counts_[static_cast<std::size_t>(m)].load(std::memory_order_relaxed);
  }

 private:
  ComplaintOptions options_;
  std::array<std::atomic<std::uint64_t>, kMisuses> counts_ = {};
  std::atomic<std::uint64_t> told_{0};
};

}  // namespace internal

// What Map returns under a ledger: a Result<Mapping> that complains when it
// goes without ok() having been asked. Once it became a Result<Mapping> that is
// followed no more; `auto` keeps it. REQUIRES: it goes before the LedgerMapper.
class [[nodiscard]] LookedAtMapping {
 public:
  LookedAtMapping(Result<Mapping> result, internal::ComplaintDesk* desk,
                  CallSite where)
      : result_(std::move(result)), desk_(desk), where_(where) {}
  LookedAtMapping(const LookedAtMapping&) = delete;
  LookedAtMapping& operator=(const LookedAtMapping&) = delete;
  ~LookedAtMapping() {
    if (looked_) return;
    Complaint c;
    c.misuse = Misuse::kUnlooked;
    c.where = where_;
    if (result_.ok()) {
      c.mapping = *result_;
    } else {
      c.error = result_.error();
    }
    desk_->Complain(c);
  }

  bool ok() const {
    looked_ = true;
    return result_.ok();
  }
  Error error() const {
    looked_ = true;
    return result_.error();
  }
  const Mapping& operator*() const { return *result_; }
  const Mapping* operator->() const { return &*result_; }
  operator Result<Mapping>() const {  // NOLINT: what callers say
    looked_ = true;
    return result_;
  }

 private:
  Result<Mapping> result_;
  internal::ComplaintDesk* desk_;
  CallSite where_;
  mutable bool looked_ = false;
};

template <Mapper M, class Policy = LedgerOn>
class LedgerMapper;

// A LedgerMapper as one owner sees it: what it maps bears the owner's name. A
// Mapper, as cheap to copy as two pointers.
template <class LedgerM>
class OwnedLedgerMapper {
 public:
  OwnedLedgerMapper(LedgerM& mapper, const char* owner)
      : mapper_(&mapper), owner_(owner) {}

  auto Map(PhysAddr buffer, std::uint64_t size, Direction direction,
           MapAttributes attributes = MapAttributes::kNone,
           CallSite where = CallSite::Here()) {
    return mapper_->MapFor(owner_, buffer, size, direction, attributes, where);
  }
  Result<void> Unmap(const Mapping& m,
                     MapAttributes attributes = MapAttributes::kNone,
                     CallSite where = CallSite::Here()) {
    return mapper_->Unmap(m, attributes, where);
  }
  Result<void> SyncForCpu(const Mapping& m, std::uint64_t offset,
                          std::uint64_t size,
                          CallSite where = CallSite::Here()) {
    return mapper_->SyncForCpu(m, offset, size, where);
  }
  Result<void> SyncForDevice(const Mapping& m, std::uint64_t offset,
                             std::uint64_t size,
                             CallSite where = CallSite::Here()) {
    return mapper_->SyncForDevice(m, offset, size, where);
  }
  Result<CoherentBlock> AllocateCoherent(std::uint64_t size,
                                         CallSite where = CallSite::Here()) {
    return mapper_->AllocateCoherentFor(owner_, size, where);
  }
  Result<void> FreeCoherent(const CoherentBlock& block,
                            CallSite where = CallSite::Here()) {
    return mapper_->FreeCoherent(block, where);
  }

 private:
  LedgerM* mapper_;
  const char* owner_;
};

}  // namespace dmamap::inline v0

#include "domain/ledger_off.h"  // IWYU pragma: export
#include "domain/ledger_on.h"   // IWYU pragma: export

#endif  // DMAMAP_DOMAIN_LEDGER_MAPPER_H_
