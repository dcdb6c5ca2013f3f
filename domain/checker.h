// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_CHECKER_H_
#define DMAMAP_DOMAIN_CHECKER_H_

// The check of what a caller hands back: is there a mapping, and is it this
// one?
//
// The record is the mapping's BounceSlot. Its tag counts the mappings of the
// slot, from a value of the domain's own, so that a mapping that is over, that
// was made by another domain, or that was altered, is recognised also when its
// address is in use again (guarantees 4, 9). 2^32 mappings of one address later
// a tag comes back.
//
// Whoever may end a mapping, or copy for it, says so in the slot's word by one
// compare-exchange, which also proves that the fields read before it were this
// mapping's. Lock-free, from any thread. What it refuses it counts, by kind
// (RefusedCalls): driver bugs, so that the counters need not be fast.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "bounce/slot.h"
#include "dma/address.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "domain/options.h"

namespace dmamap::inline v0 {
namespace internal {

// What is wrong with a mapping that was handed back.
enum class Finding : std::uint8_t {
  kSame,  // nothing
  kNotMapped,
  kOther,  // the tag: of an earlier mapping, or another domain's
  kDirection,
  kSize,
  kOutside,
};
inline constexpr std::size_t kFindings = 6;

// kMatches: whether a live mapping is compared with what is handed back
// (DomainPolicies::kCheckMappings).
template <class BounceType, bool kMatches = true>
class StreamChecker {
 public:
  using Slot = typename BounceType::Slot;

  explicit StreamChecker(const BounceType& bounce) : bounce_(bounce) {}

  // Takes the live mapping for the caller alone, who ends it: `to` is kEnding
  // or, to make up his mind, kClaimed. kNotMapped: there is none at this
  // address (it has ended, or never was). kMismatch: there is one, but the tag,
  // the size or the direction differ. kBusy: another call uses or ends it.
  [[gnu::always_inline]] Result<Slot*> Take(const Mapping& mapping,
                                            SlotState to) const {
    Slot* const slot = bounce_.SlotAt(mapping.iova);
    const std::uint64_t head = bounce_.slot().Offset(mapping.iova.value());
    if (TryTake(slot, head, mapping, to)) [[likely]]
      return slot;
    return TakeOther(mapping, to);
  }
  // The same from `slot`, which may be null, for a mapping that begins `head`
  // behind its first byte, and without a word of why not: false, and Take says.
  [[gnu::always_inline]] static bool TryTake(Slot* slot, std::uint64_t head,
                                             const Mapping& mapping,
                                             SlotState to) {
    const SlotWord then(mapping.tag, to);
    std::uint64_t live = then.To(SlotState::kLive).bits();
    // acquire: the fields were written before it (W1 in bounce/). C1, seq_cst:
    // as in Change. relaxed: nothing has happened.
    return kMatches && slot != nullptr &&
           slot->word.load(std::memory_order_acquire) == live &&
           CompareFields(head, mapping, *slot) == Finding::kSame &&
           slot->word.compare_exchange_strong(live, then.bits(),
                                              std::memory_order_seq_cst,
                                              std::memory_order_relaxed);
  }

  // Keeps the live mapping from being ended until Unpin. The same errors, and
  // kOutOfRange unless [offset, offset+size) is in the mapping,
  // kInvalidArgument for size 0.
  Result<Slot*> Pin(const Mapping& mapping, std::uint64_t offset,
                    std::uint64_t size) const {
    return Change(mapping, [&](SlotWord now) -> Result<SlotWord> {
      if (size == 0) return Error::kInvalidArgument;
      if (offset >= mapping.size || size > mapping.size - offset) {
        return Refuse(Finding::kOutside);
      }
      if (now.pins() == SlotWord::kMostPins) return Error::kBusy;
      return SlotWord(now.bits() + SlotWord::kPin);
    });
  }
  static void Unpin(Slot& slot) {
    // U1, release: pairs with C1. The copy is done before the mapping ends.
    slot.word.fetch_sub(SlotWord::kPin, std::memory_order_release);
  }

  // Counts it; the error for it.
  [[gnu::cold, gnu::noinline]] Error Refuse(Finding finding) const {
    // relaxed: a statistic.
    refused_[static_cast<std::size_t>(finding)].fetch_add(
        1, std::memory_order_relaxed);
    if (finding == Finding::kNotMapped) return Error::kNotMapped;
    return finding == Finding::kOutside ? Error::kOutOfRange : Error::kMismatch;
  }
  void AddTo(RefusedCalls& calls) const {
    const auto count = [this](Finding finding) {
      // relaxed: a statistic.
      return refused_[static_cast<std::size_t>(finding)].load(
          std::memory_order_relaxed);
    };
    calls.not_mapped += count(Finding::kNotMapped);
    calls.of_another += count(Finding::kOther);
    calls.wrong_direction += count(Finding::kDirection);
    calls.wrong_size += count(Finding::kSize);
    calls.outside += count(Finding::kOutside);
  }

  // Where domains begin to count: far apart, as an odd multiple visits all 2^32
  // values, and this one (2^32 / golden ratio) spreads the first few evenly.
  static std::uint32_t FirstTag() {
    // relaxed: only has to differ.
    return domains_.fetch_add(1, std::memory_order_relaxed) * 0x9E3779B1u;
  }

 private:
  // Take for any mapping.
  [[gnu::noinline]] Result<Slot*> TakeOther(const Mapping& mapping,
                                            SlotState to) const {
    return Change(mapping, [to](SlotWord now) -> Result<SlotWord> {
      if (now.pins() != 0) return Error::kBusy;
      return now.To(to);
    });
  }
  // The word becomes next(word), if it is the mapping's.
  template <class Next>
  [[gnu::always_inline]] Result<Slot*> Change(const Mapping& mapping,
                                              Next&& next) const {
    Slot* const slot = bounce_.SlotAt(mapping.iova);
    if (slot == nullptr) return Refuse(Finding::kNotMapped);
    // acquire: the fields below were written before it (W1 in bounce/).
    std::uint64_t bits = slot->word.load(std::memory_order_acquire);
    for (;;) {
      const SlotWord now(bits);
      if (!now.is_live()) return Refuse(Finding::kNotMapped);
      if constexpr (kMatches) {
        const Finding found = Compare(mapping, *slot, now);
        if (found != Finding::kSame) [[unlikely]]
          return Refuse(found);
      }
      if (now.state() == SlotState::kClaimed) return Error::kBusy;
      const Result<SlotWord> then = next(now);
      if (!then.ok()) return then.error();
      // C1, seq_cst: before the pages are looked at (bounce/page_table.h); it
      // is acquire too, and pairs with U1. acquire on failure: as above.
      if (slot->word.compare_exchange_weak(bits, then->bits(),
                                           std::memory_order_seq_cst,
                                           std::memory_order_acquire)) {
        return slot;
      }
    }
  }

  Finding Compare(const Mapping& mapping, const Slot& slot,
                  SlotWord now) const {
    const Finding found = CompareFields(
        bounce_.slot().Offset(mapping.iova.value()), mapping, slot);
    return now.tag() == mapping.tag || found == Finding::kNotMapped
               ? found
               : Finding::kOther;
  }
  // All but the tag.
  [[gnu::always_inline]] static Finding CompareFields(std::uint64_t head,
                                                      const Mapping& mapping,
                                                      const Slot& slot) {
    // relaxed: another mapping's when the compare-exchange fails.
    const SlotShape shape(slot.shape.load(std::memory_order_relaxed));
    if (head != shape.head()) return Finding::kNotMapped;
    if (shape.direction() != mapping.direction) return Finding::kDirection;
    return slot.size.load(std::memory_order_relaxed) == mapping.size
               ? Finding::kSame
               : Finding::kSize;
  }

  static inline std::atomic<std::uint32_t> domains_{1};
  const BounceType& bounce_;
  mutable std::array<std::atomic<std::uint64_t>, kFindings> refused_ = {};
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_CHECKER_H_
