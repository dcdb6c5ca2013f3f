// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_DMAMAP_IOTLB_H_
#define DMAMAP_BENCHMARKS_DMAMAP_IOTLB_H_

// dmamap's IOTLB as an IotlbSubject (peers/iotlb_subject.h).
//
//   DmamapIotlb<FrontPolicy::kOn>   the tree behind its page-indexed front
//   DmamapIotlb<FrontPolicy::kOff>  the tree alone
//
// Readers look up as a device model does, with a Reader's hint and counters,
// alone and beside a writer alike: there is no other lookup for one thread.
// They ask for the memory and the permission (LookupPage), which is what the
// floors and the workloads' own check know; the token is not fetched.
// Writers take our lock, and their removals do not wait for sections, as the
// readers here enter none (nobody looks at the memory behind an address).

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "benchmarks/peers/iotlb_subject.h"
#include "dma/address.h"
#include "dma/direction.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "iotlb/iotlb.h"

namespace dmamap::bench {

// Lookups are by page, as a page table's; kFull: with token and extent.
template <FrontPolicy kFront, bool kFull = false>
class DmamapIotlb {
  struct Policies : IotlbPolicies {
    using WriterLock = SpinLock;
  };
  using Iotlb = BasicIotlb<Policies>;

 public:
  static constexpr std::uint64_t kMaxMappings = 0;
  static constexpr bool kSparse = true;

  class Reader {
   public:
    explicit Reader(Iotlb& iotlb) { (void)reader_->Init(iotlb).ok(); }

    std::uint64_t Lookup(std::uint64_t iova) {
      if constexpr (kFull) {
        const Result<Translation> t = reader_->Lookup(Iova(iova), kRead);
        return t.ok() ? t->address.value() : 0;
      } else {
        const Result<PageTranslation> t =
            reader_->LookupPage(Iova(iova), kRead);
        return t.ok() ? t->address.value() : 0;
      }
    }
    std::uint64_t LookupShared(std::uint64_t iova) { return Lookup(iova); }

   private:
    static constexpr Permission kRead = Permission::kRead;
    std::unique_ptr<typename Iotlb::Reader> reader_ =
        std::make_unique<typename Iotlb::Reader>();
  };

  static absl::StatusOr<std::unique_ptr<DmamapIotlb>> Create(std::uint64_t) {
    auto made = std::make_unique<DmamapIotlb>();
    if (!made->iotlb_.Init({.front_policy = kFront}).ok()) {
      return absl::InternalError("the IOTLB did not start");
    }
    return made;
  }
  Reader NewReader() { return Reader(iotlb_); }

  bool Add(std::uint64_t first, std::uint64_t last, std::uint64_t address,
           unsigned permission) {
    const Result<Range> range = Range::FromFirstLast(Iova(first), Iova(last));
    if (!range.ok()) return false;
    IotlbEntry entry;
    entry.range = *range;
    entry.address = PhysAddr(address);
    entry.permission = static_cast<Permission>(permission);
    return iotlb_.Add(entry).ok();
  }
  void Remove(std::uint64_t first, std::uint64_t last) {
    const Result<Range> range = Range::FromFirstLast(Iova(first), Iova(last));
    if (range.ok()) (void)iotlb_.Remove(*range, RemoveMode::kDeferred);
  }
  bool AddShared(std::uint64_t first, std::uint64_t last, std::uint64_t address,
                 unsigned permission) {
    return Add(first, last, address, permission);
  }
  void RemoveShared(std::uint64_t first, std::uint64_t last) {
    Remove(first, last);
  }
  peers::WalkResult Walk(std::uint64_t first, std::uint64_t last) const {
    peers::WalkResult walked;
    const Result<Range> range = Range::FromFirstLast(Iova(first), Iova(last));
    if (!range.ok()) return walked;
    iotlb_.ForEach(*range, [&](const IotlbEntry& entry) {
      ++walked.count;
      walked.sum += entry.address.value();
    });
    return walked;
  }

  std::uint64_t bytes() const {
    return sizeof(iotlb_) + iotlb_.stats().memory_bytes;
  }

 private:
  Iotlb iotlb_;
};
static_assert(peers::WalkableIotlb<DmamapIotlb<FrontPolicy::kOn>>);
static_assert(peers::WalkableIotlb<DmamapIotlb<FrontPolicy::kOff>>);

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_DMAMAP_IOTLB_H_
