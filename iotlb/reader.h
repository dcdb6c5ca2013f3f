// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_READER_H_
#define DMAMAP_IOTLB_READER_H_

// Reader: what one thread looks up with. Lookup as the IOTLB's, with a hint,
// counters, and sections that removals wait for.
//
//   Iotlb::Reader reader;                       // one a thread (a device
//   queue) Result<void> ready = reader.Init(iotlb);
//   {
//     Iotlb::Reader::Section section(reader);   // for a batch of accesses
//     Result<Translation> t = reader.Lookup(iova, Permission::kRead);
//     ... access the memory at t->address ...
//   }
//
// The hint is the last mapping that was hit twice in a row, copied, with the
// generation of its record: while that stands, the mapping is alive, unchanged
// and overlapped by no other, and the copy answers without a search.
//
// Not thread-safe: one thread at a time uses a Reader. Lookups, Enter and Leave
// do not block and write the reader's own cache lines alone. Init is a change
// of the IOTLB (see iotlb.h), which must outlive the Reader.

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "dma/address.h"
#include "dma/assert.h"
#include "dma/direction.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iotlb/iotlb.h"
#include "iotlb/mapping.h"
#include "iotlb/record.h"

namespace dmamap::inline v0 {

template <class Policies>
class alignas(kCacheLine) Reader {
  using Iotlb = BasicIotlb<Policies>;
  using Record = typename Iotlb::Record;
  using Slot = typename Iotlb::Registry::Slot;
  using Brief = typename Iotlb::Core::Brief;
  using FrontIndex = typename Iotlb::Core::Front::Index;

 public:
  Reader() = default;
  ~Reader() {
    if (iotlb_ != nullptr) iotlb_->registry_.Detach(slot_);
  }
  Reader(const Reader &) = delete;
  Reader &operator=(const Reader &) = delete;

  // Once; before it, lookups end in kShutDown. kBusy the second time,
  // kShutDown when `iotlb` is not ready, kNoMemory.
  Result<void> Init(Iotlb &iotlb) {
    if (iotlb_ != nullptr) return Error::kBusy;
    Guard guard(iotlb.core_.lock());
    if (!iotlb.ready_) return Error::kShutDown;
    Slot *const slot = iotlb.registry_.Attach();
    if (slot == nullptr) return Error::kNoMemory;
    slot_ = slot;
    front_ = &iotlb.core_.front();
    iotlb_ = &iotlb;
    return Ok();
  }

  // As Iotlb::Lookup.
  Result<Translation> Lookup(Iova at, Permission wanted) {
    if (HintAnswers(at, wanted)) [[likely]] {
      Slot::Count(slot_->hint_hits);
      return Translation{hint_.MemoryAt(at.value()),
                         hint_.first + hint_.span - at.value(),
                         hint_.permission, hint_.token};
    }
    return LookupWithoutHint(at, wanted);
  }

  // As Iotlb::LookupPage, with the hint, which is taken of a mapping in which
  // the same page was hit twice in a row.
  Result<PageTranslation> LookupPage(Iova at, Permission wanted) {
    if (HintAnswers(at, wanted)) {
      Slot::Count(slot_->hint_hits);
      return PageTranslation{hint_.MemoryAt(at.value()),
                             hint_.first + hint_.span - at.value(),
                             hint_.permission};
    }
    PageTranslation found;
    const std::uint64_t page = Iotlb::Core::Front::PageOf(at.value());
    Brief brief = Brief::kAskSlot;
    if (page != last_page_) [[likely]] {
      brief = front_->FindMemory(at.value(), wanted, found);
      if (brief == Brief::kMemory) [[likely]] {
        last_page_ = page;
        Slot::Count(slot_->hits);
        return found;
      }
    }
    // A variable of its own: `found` stays in registers.
    PageTranslation further;
    const Error error = LookupPageFurther(at, wanted, brief, further);
    if (error != internal::kNoError) return error;
    return further;
  }

  // As Iotlb's. What they find is not counted.
  std::size_t Translate(Range range, Permission wanted,
                        std::span<Segment> out) const {
    return iotlb_ == nullptr ? 0 : iotlb_->Translate(range, wanted, out);
  }
  template <class Emit>
  Result<void> ForEachSegment(Range range, Permission wanted,
                              Emit &&emit) const {
    if (iotlb_ == nullptr) return Error::kShutDown;
    return iotlb_->ForEachSegment(range, wanted, std::forward<Emit>(emit));
  }

  // A section: a removal that begins in it, or is under way, does not return
  // before it ends. As short as may be; not nested. REQUIRES: Init succeeded.
  class [[nodiscard]] Section {
   public:
    explicit Section(Reader &reader) : reader_(reader) { reader_.Enter(); }
    ~Section() { reader_.Leave(); }
    Section(const Section &) = delete;
    Section &operator=(const Section &) = delete;

   private:
    Reader &reader_;
  };
  void Enter() {
    DMAMAP_ASSERT(slot_ != nullptr);
    iotlb_->registry_.Enter(*slot_);
  }
  void Leave() { Iotlb::Registry::Leave(*slot_); }

  // Any thread.
  ReaderStats stats() const;

 private:
  // What answers without a search.
  static constexpr unsigned kPermissions = 4;
  struct Hint {
    std::uint64_t first = 0;
    std::uint64_t span = 0;  // bytes less one
    std::uint64_t away = 0;  // how far behind it its memory lies, modulo 2^64
    const Record *record = &nowhere_;
    // For each permission wanted, the word that the record has while the
    // mapping stands; one that no record has where it grants less.
    std::uint64_t meta[kPermissions] = {kNoMeta, kNoMeta, kNoMeta, kNoMeta};
    std::uint64_t token = 0;
    Permission permission = Permission::kNone;

    PhysAddr MemoryAt(std::uint64_t at) const { return PhysAddr(at + away); }
  };
  static constexpr std::uint64_t kNoMeta = ~std::uint64_t{0};
  static inline const Record nowhere_{};
  static inline const FrontIndex no_front_{};

  [[gnu::always_inline]] bool HintAnswers(Iova at, Permission wanted) const {
    const auto asked = static_cast<unsigned>(wanted);
    return at.value() - hint_.first <= hint_.span && asked < kPermissions &&
           hint_.record->meta() == hint_.meta[asked];
  }
  Result<Translation> LookupWithoutHint(Iova at, Permission wanted) {
    if (iotlb_ == nullptr) [[unlikely]]
      return Error::kShutDown;
    RecordCopy copy;
    const Record *record = nullptr;
    const internal::Verdict verdict =
        iotlb_->core_.FindByFront(at.value(), wanted, copy, record);
    if (verdict == internal::Verdict::kHit) [[likely]] {
      Slot::Count(slot_->hits);
      if (record == last_record_) [[unlikely]]
        TakeHint(copy, record);
      last_record_ = record;
      return copy.At(at.value());
    }
    return LookupFurther(at, wanted);
  }
  [[gnu::noinline]] Result<Translation> LookupFurther(Iova at,
                                                      Permission wanted) {
    RecordCopy copy;
    const Record *record = nullptr;
    const internal::Verdict verdict =
        iotlb_->core_.FindFurther(at.value(), wanted, copy, record);
    return Answer(verdict, copy, record, at, wanted);
  }
  // kNoError: it is in `found`.
  [[gnu::noinline]] Error LookupPageFurther(Iova at, Permission wanted,
                                            Brief brief,
                                            PageTranslation &found) {
    // Looks the same page up once more: by the record, which gives a hint.
    if (iotlb_ != nullptr &&
        Iotlb::Core::Front::PageOf(at.value()) == last_page_) {
      last_record_ = iotlb_->core_.RecordAt(at.value());
    }
    const Result<Translation> further = brief == Brief::kAskTree
                                            ? LookupByTree(at, wanted)
                                            : LookupWithoutHint(at, wanted);
    if (!further.ok()) return further.error();
    found = PageTranslationOf(*further);
    return internal::kNoError;
  }
  Result<Translation> LookupByTree(Iova at, Permission wanted) {
    RecordCopy copy;
    const Record *record = nullptr;
    const internal::Verdict verdict =
        iotlb_->core_.FindByTree(at.value(), wanted, copy, record);
    return Answer(verdict, copy, record, at, wanted);
  }
  // Counts it.
  Result<Translation> Answer(internal::Verdict verdict, const RecordCopy &copy,
                             const Record *record, Iova at, Permission wanted) {
    if (verdict == internal::Verdict::kHit) {
      Slot::Count(slot_->hits);
      if (record == last_record_) TakeHint(copy, record);
      last_record_ = record;
      return copy.At(at.value());
    }
    Slot::Count(verdict == internal::Verdict::kMiss ? slot_->misses
                                                    : slot_->faults);
    return iotlb_->Answer(verdict, wanted);
  }
  void TakeHint(const RecordCopy &copy, const Record *record) {
    if ((copy.meta & Record::kOverlapped) != 0) return;
    hint_.first = copy.first;
    hint_.span = copy.last - copy.first;
    hint_.away = copy.address - copy.first;
    hint_.record = record;
    for (unsigned asked = 0; asked < kPermissions; ++asked) {
      const bool granted =
          Allows(copy.permission(), static_cast<Permission>(asked));
      hint_.meta[asked] = granted ? copy.meta : kNoMeta;
    }
    hint_.token = copy.token;
    hint_.permission = copy.permission();
  }

  Hint hint_;
  const Record *last_record_ = nullptr;  // of the last hit without the hint
  std::uint64_t last_page_ = ~std::uint64_t{0};  // that LookupPage found
  Slot *slot_ = nullptr;
  const FrontIndex *front_ = &no_front_;
  Iotlb *iotlb_ = nullptr;
};

template <class Policies>
ReaderStats Reader<Policies>::stats() const {
  ReaderStats stats;
  if (slot_ != nullptr) stats = slot_->stats();
  return stats;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_READER_H_
