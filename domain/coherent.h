// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_COHERENT_H_
#define DMAMAP_DOMAIN_COHERENT_H_

// The coherent space of a domain: memory that CPU and device both use without
// syncs, at I/O addresses from the bounce size up. An inner header; domain.h
// says what each call promises.
//
// A block is one run of pages from the PageSource, one run of I/O addresses,
// one IOTLB entry whose token is the address of the block's record. The entry
// covers the bytes asked for; the rest of the last page is zero and the
// block's, but no access to it is granted.
//
// FreeCoherent goes the way of Unmap: entry gone, Invalidate, memory, address.
// If the invalidation fails, memory and address stay taken until the domain is
// destroyed; and so they do when a block cannot be made and cannot be taken
// back.

#include <cstddef>
#include <cstdint>
#include <new>

#include "dma/address.h"
#include "dma/iommu_map.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "domain/core.h"
#include "domain/options.h"

namespace dmamap::inline v0 {
namespace internal {

template <class Policies>
class CoherentSpace {
  using Core = DomainCore<Policies>;

 public:
  explicit CoherentSpace(Core& core) : core_(core) {}
  CoherentSpace(const CoherentSpace&) = delete;
  CoherentSpace& operator=(const CoherentSpace&) = delete;
  ~CoherentSpace() {
    while (head_ != nullptr) {
      Record* const record = head_;
      Unlink(*record);
      FreeMemory(record);
    }
  }

  // REQUIRES: Domain::Init checked the options.
  Result<void> Init(const DomainOptions& o) {
    page_ = o.page;
    first_ = Iova(o.bounce_size);
    const auto window = Range::FromFirstLast(first_, o.limit);
    if (!window.ok()) return window.error();
    return iova_.Init({.window = *window,
                       .page = o.page,
                       .reserved = ReservedBy(core_.invalidation)});
  }

  Result<CoherentBlock> Allocate(std::uint64_t size) {
    if (size == 0) return Error::kInvalidArgument;
    const std::uint64_t pages = page_.PagesFor(size);
    if (!core_.TakeQuota()) return Error::kLimit;
    const Result<Iova> iova = iova_.Allocate(pages);
    if (!iova.ok()) {
      core_.GiveQuota();
      return iova.error();
    }
    bool kept = false;
    const Result<CoherentBlock> block = AllocateAt(*iova, size, pages, &kept);
    if (!block.ok()) {
      if (!kept) (void)iova_.Free(*iova, pages).ok();
      core_.GiveQuota();
    }
    return block;
  }

  Result<void> Free(const CoherentBlock& block) {
    const Result<Record*> ended = BeginFree(block);
    if (!ended.ok()) return ended.error();
    const Result<void> freed = FinishFree(*ended);
    core_.GiveQuota();
    core_.DoneEnding(1);
    return freed;
  }

  // The page of `at`. REQUIRES: the lock.
  Result<FaultPage> PageAt(Iova at) const {
    const Range range = Range::Byte(at).RoundOutToPages(page_);
    auto e = core_.iotlb.First(range);
    if (e == nullptr) return Error::kNotMapped;
    // Blocks are page-aligned: a page has one, and it covers the page's start.
    return FaultPage{PointerTo(AddressOf(*e, range.first())), range,
                     e->permission};
  }

  // Gives up every live block: memory and address stay taken. REQUIRES: the
  // lock; the IOTLB was cleared.
  void Abandon() {
    for (Record* r = head_; r != nullptr; r = r->next) {
      if (!r->live) continue;
      r->live = false;
      --core_.coherent;
      core_.CountQuarantined();
    }
  }

  // REQUIRES: the lock, and no call is under way.
  bool CheckInvariants() const {
    std::uint64_t live = 0;
    const Record* before = nullptr;
    for (const Record* r = head_; r != nullptr; r = r->next) {
      auto e = core_.iotlb.First(r->Bytes());
      const bool mapped = e != nullptr && e->token == Token(*r) &&
                          e->range == r->Bytes() &&
                          e->address == PhysAddrOf(r->block.cpu);
      if (r->previous != before || (r->live ? !mapped : e != nullptr)) {
        return false;
      }
      live += r->live ? 1 : 0;
      before = r;
    }
    return live == core_.coherent;
  }

 private:
  struct Record {
    CoherentBlock block;
    std::uint64_t pages = 0;
    Record* previous = nullptr;
    Record* next = nullptr;
    bool live = true;  // false: being freed, or in quarantine

    Range Bytes() const { return *Range::FromSize(block.iova, block.size); }
  };

  static std::uint64_t Token(const Record& record) {
    return PhysAddrOf(&record).value();
  }

  // After an error that sets *kept memory and address are in quarantine.
  Result<CoherentBlock> AllocateAt(Iova iova, std::uint64_t size,
                                   std::uint64_t pages, bool* kept) {
    const Result<std::byte*> memory =
        core_.fixed_pages().Allocate(page_, pages);
    if (!memory.ok()) return memory.error();
    Record* const record = new (std::nothrow) Record;
    Result<void> result =
        record == nullptr ? Result<void>(Error::kNoMemory) : Result<void>();
    if (result.ok()) {
      record->block = {iova, *memory, size};
      record->pages = pages;
      const CoherentBlock block = record->block;
      result = Publish(*record, kept);
      if (result.ok()) return block;
      if (*kept) return result.error();
    }
    delete record;
    core_.fixed_pages().Free(*memory, page_, pages);
    return result.error();
  }

  Result<void> Publish(Record& record, bool* kept) {
    Guard guard(core_.lock);
    if (!core_.IsOpen()) return Error::kShutDown;
    const Result<void> added =
        core_.iotlb.Add({record.Bytes(), PhysAddrOf(record.block.cpu),
                         Permission::kReadWrite, Token(record)},
                        kept);
    if (!added.ok() && !*kept) return added;
    record.live = added.ok();
    record.next = head_;
    if (head_ != nullptr) head_->previous = &record;
    head_ = &record;
    if (added.ok()) {
      ++core_.coherent;
    } else {
      core_.CountQuarantined();
    }
    return added;
  }

  // Finds the record and takes the block out of the device's reach.
  Result<Record*> BeginFree(const CoherentBlock& block) {
    Guard guard(core_.lock);
    if (!core_.IsOpen()) return Error::kShutDown;
    auto e = core_.iotlb.First(Range::Byte(block.iova));
    // Below first_ an entry's token is no record.
    if (block.iova < first_ || e == nullptr || e->range.first() != block.iova) {
      return core_.Refuse(Error::kNotMapped);
    }
    if (e->address != PhysAddrOf(block.cpu) || e->range.size() != block.size) {
      return core_.Refuse(Error::kMismatch);
    }
    Record* const record =
        reinterpret_cast<Record*>(static_cast<std::uintptr_t>(e->token));
    core_.iotlb.RemoveEntry(e);
    record->live = false;
    core_.BeginEnding(1);
    --core_.coherent;
    return record;
  }

  // REQUIRES: BeginFree returned `record`, in this thread.
  Result<void> FinishFree(Record* record) {
    const Result<void> gone =
        core_.invalidation.Invalidate(record->Bytes().RoundOutToPages(page_));
    const Iova iova = record->block.iova;
    const std::uint64_t pages = record->pages;
    {
      Guard guard(core_.lock);
      if (!gone.ok()) {
        core_.CountQuarantined();
        return gone;
      }
      Unlink(*record);
    }
    FreeMemory(record);
    return iova_.Free(iova, pages);
  }

  void Unlink(Record& record) {
    (record.previous == nullptr ? head_ : record.previous->next) = record.next;
    if (record.next != nullptr) record.next->previous = record.previous;
  }
  void FreeMemory(Record* record) {
    core_.fixed_pages().Free(record->block.cpu, page_, record->pages);
    delete record;
  }

  Core& core_;
  typename Policies::Allocator iova_;
  PageSize page_;
  Iova first_;  // of the space
  Record* head_ = nullptr;
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_COHERENT_H_
