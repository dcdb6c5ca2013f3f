// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_RX_QUEUE_H_
#define DMAMAP_NICRING_RX_QUEUE_H_

// RxQueue: what RxRing asks of the armed entries of a receiver, whatever family
// the device belongs to. RxList (lists with an end bit), RxArray (head and tail
// registers) and, for virtio, RxSplitQueue and RxPackedQueue are the four;
// RxQueueOf names the one that a format takes.
//
// A queue knows where entries lie, which of them the device is done with, and
// how it is told of new ones. It judges nothing but what would make it use an
// impossible index. It never takes more than one entry for one completion, and
// forgets an entry only when it hands the buffer back: what was pushed is
// popped or cleared, once. It maps nothing, and syncs nothing of a buffer but
// what it decides by: headers.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "nicring/buffer_pool.h"
#include "nicring/format.h"
#include "nicring/receiver.h"

namespace dmamap::inline v0 {

struct RxQueueOptions {
  std::uint32_t entries = 0;         // descriptors
  std::uint32_t room = 0;            // data bytes offered in each buffer
  Iova base = {};                    // lists: links are offsets from here
  std::uint32_t doorbell_batch = 0;  // doorbells: entries for each, about
  std::uint64_t features = 0;        // virtio: as negotiated
  std::uint32_t chain = 1;           // virtio: buffers for each frame offered
  std::uint32_t max_parts = 1;       // buffers that the longest frame takes
};

// Makes `*object`, which an Init left half done, as if it had just been built.
template <class T>
void Rebuild(T* object) {
  std::destroy_at(object);
  std::construct_at(object);
}

// What a look at the head found.
enum class RxLook : std::uint8_t {
  kNothing,   // the device is not done with it
  kComplete,  // the device is done with entry head + skipped
  kSkipped,   // the device is done with `skipped` entries and left them empty
  kAtStop,    // there is no open entry
  kFailed,    // the mapper refused to sync
  kBroken,    // the device said what cannot be: nothing it says counts any more
};

struct RxFound {
  RxLook look = RxLook::kNothing;
  std::uint32_t skipped = 0;  // entries from head on that got no frame
};

// A buffer that the device can reach: its first byte is byte `offset` of the
// mapping. Entries name these; the ring's refill policy (refill.h) owns them,
// maps and unmaps. One cache line each.
struct alignas(kCacheLine) RxArmed {
  Buffer buffer;
  Mapping mapping;
  std::uint32_t offset = 0;  // bytes

  Iova iova() const { return mapping.iova + offset; }
};

template <class Q>
concept RxQueue = requires(Q& q, const Q& c, const Buffer& buffer,
                           RxArmed* armed, void (*give_back)(RxArmed*)) {
  // True when the device stops at the end of the queue and is started again
  // (ReceiverPort); else it goes on by itself once the doorbell is rung.
  { Q::kStops } -> std::convertible_to<bool>;
  // True when one frame may take several entries.
  { Q::kScatters } -> std::convertible_to<bool>;
  // Entries that hold a buffer, and those of them that the device may fill.
  { c.armed() } -> std::same_as<std::uint32_t>;
  { c.open() } -> std::same_as<std::uint32_t>;
  { c.full() } -> std::same_as<bool>;
  // Entries that can be armed until it is.
  { c.vacant() } -> std::same_as<std::uint32_t>;
  { c.empty() } -> std::same_as<bool>;
  // How a buffer is to be mapped: direction, and bytes from its first on. The
  // driver writes the first kHeaderBytes of these before it arms an entry.
  { Q::kDirection } -> std::convertible_to<Direction>;
  { Q::kHeaderBytes } -> std::convertible_to<std::uint32_t>;
  { c.buffer_bytes() } -> std::same_as<std::uint32_t>;
  // Checks the buffer, and writes its header. Before the device can reach it.
  // kShutDown, kInvalidArgument for one that is too small or misaligned.
  { q.Prepare(buffer) } -> std::same_as<Result<void>>;
  // Arms an entry behind the others with a prepared and mapped buffer, which
  // stays where it is until it is popped; unused after an error. REQUIRES:
  // !full().
  { q.Push(armed) } -> std::same_as<Result<void>>;
  // Lets the device see what was pushed; kNoSpace while that is too little.
  { q.Publish() } -> std::same_as<Result<void>>;
  // Looks at the next completion; a second look loads nothing again.
  { q.Look() } -> std::same_as<RxFound>;
  // Has the CPU fetch what the next completions are read from. A hint.
  q.Prefetch();
  // What the device says about it. REQUIRES: Look said kComplete, and what it
  // skipped was popped. Once for each completion.
  { q.Snapshot() } -> std::same_as<Result<Completion>>;
  // Where the data lie in the head's buffer, and the bytes offered there.
  { c.data_offset() } -> std::same_as<std::uint32_t>;
  { c.room() } -> std::same_as<std::uint32_t>;
  // Takes the head out, mapped as it is. REQUIRES: Look said kComplete, or
  // kSkipped and this is one of them.
  { q.Pop() } -> std::same_as<RxArmed*>;
  // Pops everything. REQUIRES: the device is stopped.
  q.Clear(give_back);
  { c.CheckInvariants() } -> std::same_as<bool>;
};

// A queue whose receiver stops at its end.
template <class Q>
concept StoppingQueue = RxQueue<Q> && Q::kStops &&
    requires(Q& q, const Q& c, RxLook look) {
  // After a pass that ended with `look`, cut or not: what the device had
  // completed before is consumed; the receiver may be asked now, too.
  { Q::Drains(true, look) } -> std::same_as<bool>;
  { Q::AsksAfter(true, look) } -> std::same_as<bool>;
  // The receiver may have stopped, and nobody has told.
  { c.MayHaveStopped() } -> std::same_as<bool>;
  // Where it is to start. REQUIRES: !empty().
  { c.head_iova() } -> std::same_as<Iova>;
  // It was started there.
  q.ForgetSuspects();
};

template <class Q>
concept DoorbellQueue =
    RxQueue<Q> && !Q::kStops && requires(Q & q, const Q& c) {
  { c.addresses() } -> std::same_as<RingAddresses>;
  // What was published since the last time is worth a doorbell (or the device
  // would starve): true once, after the barrier that a doorbell needs.
  { q.TakeDoorbell() } -> std::same_as<bool>;
  // What the doorbell says: the tail, as the format counts it.
  { c.doorbell() } -> std::same_as<std::uint32_t>;
};

// A queue whose interrupt is masked by words in its own memory.
template <class Q>
concept InterruptingQueue = DoorbellQueue<Q> && requires(Q& q) {
  // False when the device could not be shown it.
  { q.Mask() } -> std::same_as<bool>;
  { q.Unmask() } -> std::same_as<bool>;
};

// What a ring checks of what the device says (RxPolicies::kChecks).
enum class RxChecks : std::uint8_t {
  kAll,
  // Neither lengths nor numbers: the code for it is not there. For a device
  // that may do anything with the memory of the program, as it can then: a
  // length that it makes up is read behind the buffer, a number is an index. A
  // frame in one buffer goes up whatever max_frame says.
  kNone,
};

// The queue that a format takes: RxQueueOf<Format, Mapper, checks>::Type.
template <class Format, class MapperType, RxChecks kChecks = RxChecks::kAll>
struct RxQueueOf;

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_RX_QUEUE_H_
