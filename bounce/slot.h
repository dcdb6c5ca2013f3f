// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_SLOT_H_
#define DMAMAP_BOUNCE_SLOT_H_

// BounceSlot: what is known of one slot of the bounce space, in a cache line.
//
// A mapping owns whole slots. Its record lies in the first of them and is
// governed by one word: state, pins and tag. The slots behind the first name
// it. So an I/O address leads to its mapping, if it has one, without a search
// and without a lock.
//
//                Map            Unmap (one at a time: kClaimed)
//   kFree -> kFilling -> kLive -> [kClaimed ->] kEnding -> kFree
//                                                       -> kQuarantined
//                                                       -> kRetired -> kFree
//
// Fields other than the word are written by whoever took the word from kFree,
// before the word says so. They are atomic because a caller may hand back a
// mapping that is over while the slot gets its next one: he then reads a
// mixture, and the word, whose tag each mapping changes, says that he did.

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "dma/address.h"
#include "dma/atom.h"
#include "dma/direction.h"
#include "dma/sync.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

// What the body of a fresh mapping holds before the device writes to it.
enum class BounceFill : std::uint8_t {
  kOriginal,  // the bytes of the buffer
  kZero,      // zeros: the caller opted out, and still nobody's bytes are shown
};

// One mapping, as its bounce pages see it.
struct BounceBuffer {
  Range slots;      // whole slots
  Range body;       // inside `slots`, from the first of them on
  PhysAddr buffer;  // where body.first() comes from
  BounceFill fill = BounceFill::kOriginal;
  // Kept for the caller.
  Direction direction = Direction::kBidirectional;
  bool overwritten = false;
};

enum class SlotState : std::uint8_t {
  kFree,         // no mapping begins here
  kFilling,      // being made: a fault fills from it, no device may use it
  kLive,         // the device's
  kClaimed,      // the same, but one call is about to end it
  kEnding,       // out of the device's reach; address and pages still taken
  kQuarantined,  // taken for ever
  kRetired,      // taken until an invalidation has passed; no call is at it
};

// The word of a slot: tag (32 bits), pins (24), state (8).
class SlotWord {
 public:
  static constexpr std::uint64_t kPin = std::uint64_t{1} << 8;
  static constexpr std::uint32_t kMostPins = (1u << 24) - 1;

  constexpr SlotWord() = default;
  constexpr explicit SlotWord(std::uint64_t bits) : bits_(bits) {}
  constexpr SlotWord(std::uint32_t tag, SlotState state)
      : bits_(std::uint64_t{tag} << 32 | static_cast<std::uint8_t>(state)) {}

  constexpr std::uint64_t bits() const { return bits_; }
  constexpr std::uint32_t tag() const {
    return static_cast<std::uint32_t>(bits_ >> 32);
  }
  // Calls that use a live mapping's pages right now.
  constexpr std::uint32_t pins() const {
    return static_cast<std::uint32_t>(bits_ >> 8) & kMostPins;
  }
  constexpr SlotState state() const {
    return static_cast<SlotState>(bits_ & 0xff);
  }
  // The same mapping in another state, without pins.
  constexpr SlotWord To(SlotState state) const {
    return SlotWord(tag(), state);
  }
  constexpr bool is_free() const { return state() == SlotState::kFree; }
  // The device may use it.
  constexpr bool is_live() const {
    return state() == SlotState::kLive || state() == SlotState::kClaimed;
  }
  // A page that comes now shows its bytes.
  constexpr bool is_shown() const {
    return is_live() || state() == SlotState::kFilling;
  }
  // Of one mapping in one state, whatever the pins.
  constexpr bool SameAs(SlotWord other) const {
    return tag() == other.tag() && state() == other.state();
  }

 private:
  std::uint64_t bits_ = 0;
};

template <template <class> class Atom = std::atomic>
struct alignas(kCacheLine) BounceSlot {
  Atom<std::uint64_t> word{0};    // SlotWord
  Atom<std::uint64_t> size{0};    // of the body, bytes
  Atom<std::uint64_t> buffer{0};  // PhysAddr of the body's first byte
  Atom<std::uint64_t> shape{0};   // SlotShape
  // The mapping that this slot belongs to but does not begin: the number of its
  // first slot + 1. May be of one that is over: look at that one's size.
  Atom<std::uint64_t> owner{0};
  // In the first slot of each page: its address, and a busy bit.
  Atom<std::uintptr_t> page{0};
  // The bytes of this slot on its page that may be something else than zeros or
  // what the device wrote, from the slot's first byte: [dirty_first,
  // dirty_end). Whoever owns the slot writes them or, while there is no page,
  // who makes it.
  PlainFor<Atom, std::uint32_t> dirty_first{0};
  PlainFor<Atom, std::uint32_t> dirty_end{0};
};

// The rest of a record, in one word.
class SlotShape {
 public:
  constexpr explicit SlotShape(std::uint64_t bits) : bits_(bits) {}
  // `head`: bytes of the first slot in front of the body; at most 1 GiB.
  constexpr SlotShape(std::uint64_t head, BounceFill fill, Direction direction,
                      bool overwritten)
      : bits_(head << 8 | static_cast<std::uint64_t>(direction) << 2 |
              (overwritten ? 2u : 0u) | (fill == BounceFill::kZero ? 1u : 0u)) {
  }
  constexpr SlotShape(std::uint64_t head, const BounceBuffer& b)
      : SlotShape(head, b.fill, b.direction, b.overwritten) {}

  constexpr std::uint64_t bits() const { return bits_; }
  constexpr std::uint64_t head() const { return bits_ >> 8; }
  constexpr Direction direction() const {
    return static_cast<Direction>((bits_ >> 2) & 0x3f);
  }
  constexpr bool overwritten() const { return (bits_ & 2) != 0; }
  constexpr BounceFill fill() const {
    return (bits_ & 1) != 0 ? BounceFill::kZero : BounceFill::kOriginal;
  }

 private:
  std::uint64_t bits_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_BOUNCE_SLOT_H_
