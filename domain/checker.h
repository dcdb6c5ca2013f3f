// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_CHECKER_H_
#define DMAMAP_DOMAIN_CHECKER_H_

// The records of streaming mappings, and the check of what a caller hands back.
//
// One record for each page where a mapping begins, found by its number. Each
// mapping gets a tag: a count of the domain's mappings, started at a value of
// the domain's own, so that a mapping that is over, that was made by another
// domain, or that was altered, is recognised also when its address is in use
// again (guarantees 4, 9). 2^32 mappings later a tag comes back.
//
//   kFree -> kLive (Map) -> kEnding (Unmap, outside the lock) -> kFree
//                                                             -> kQuarantined
//
// Threads: under the domain's lock, except that whoever moved a record to
// kEnding may read its other fields until it moves it on.

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "bounce/bounce.h"
#include "bounce/sparse_table.h"
#include "dma/address.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {
namespace internal {

enum class RecordState : std::uint8_t { kFree, kLive, kEnding, kQuarantined };

struct StreamRecord {
  Mapping mapping;
  PhysAddr buffer;
  std::uint32_t pins = 0;  // syncs that copy outside the lock
  BounceFill fill = BounceFill::kOriginal;
  RecordState state = RecordState::kFree;
  bool overwritten = false;  // MapAttributes::kDeviceOverwritesAll
  // What of the body is copied back when the mapping ends; set with kEnding.
  bool drains = false;
  Range drain;

  Range body() const {
    return *Range::FromSize(mapping.iova, mapping.size);  // checked by Map
  }
};

template <template <class> class Atom>
class StreamRecords {
 public:
  // A table for the pages 0 .. pages-1. See SparseTable::Init.
  Result<void> Init(PageSize page, std::uint64_t pages) {
    page_ = page;
    next_tag_ = Seed();
    return table_.Init(pages);
  }

  // The record for a mapping that begins at `iova`; kNoMemory. Needs no lock.
  Result<StreamRecord*> Prepare(Iova iova) {
    return table_.Ensure(page_.Number(iova));
  }

  std::uint32_t NextTag() {
    if (next_tag_ == 0) ++next_tag_;  // 0 is nobody's tag
    return next_tag_++;
  }

  // The live record that `mapping` names. kNotMapped: there is none there (it
  // has ended, or never was). kMismatch: there is one, but the tag, the size or
  // the direction differ.
  Result<StreamRecord*> Check(const Mapping& mapping) const {
    StreamRecord* const record = table_.Find(page_.Number(mapping.iova));
    if (record == nullptr || record->state != RecordState::kLive ||
        record->mapping.iova != mapping.iova) {
      return Error::kNotMapped;
    }
    if (record->mapping != mapping) return Error::kMismatch;
    return record;
  }

  // The record of the mapping that begins at `first`. REQUIRES: there is one.
  StreamRecord* Of(Iova first) const {
    return table_.Find(page_.Number(first));
  }

  // f(StreamRecord&) for each that is not free.
  template <class F>
  void ForEach(F&& f) const {
    table_.ForEach(0, ~std::uint64_t{0},
                   [&](std::uint64_t, StreamRecord& record) {
                     if (record.state != RecordState::kFree) f(record);
                   });
  }

 private:
  // Domains start far apart: an odd multiple visits all 2^32 values, and this
  // one (2^32 / golden ratio) spreads the first few evenly.
  static std::uint32_t Seed() {
    // relaxed: only has to differ.
    return domains_.fetch_add(1, std::memory_order_relaxed) * 0x9E3779B1u;
  }
  static inline std::atomic<std::uint32_t> domains_{1};

  SparseTable<StreamRecord, Atom> table_;
  PageSize page_;
  std::uint32_t next_tag_ = 1;
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_CHECKER_H_
