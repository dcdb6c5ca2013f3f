// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_OPTIONS_H_
#define DMAMAP_DOMAIN_OPTIONS_H_

// The words of a domain: what it is made of, what it is told once, and what its
// calls take and return beside the vocabulary of dma/mapper.h.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "bounce/memory_access.h"
#include "bounce/page_source.h"
#include "dma/address.h"
#include "dma/asymmetric_fence.h"
#include "dma/cpu.h"
#include "dma/direction.h"
#include "dma/invalidate.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "domain/mode.h"
#include "domain/owner.h"
#include "domain/segments.h"
#include "iova/flush_options.h"
#include "iova/standard.h"

namespace dmamap::inline v0 {

// What a Domain is composed of. Derive and override one name:
//
//   struct MyPolicies : DomainPolicies { using Invalidation = VfioUnmap; };
//   Domain<MyPolicies> domain;
//   domain.invalidation().set_container(fd);
//
// All of them are default-constructible; the domain owns one of each.
struct DomainPolicies {
  using Memory = DirectMemory;          // MemoryAccess: the original buffers
  using Pages = HeapPages;              // PageSource: what the device sees
  using Invalidation = NoInvalidation;  // Invalidator; an IommuMap: all modes
  using LockType = SpinLock;            // Lock around the coherent space
  using Cpu = ThreadSlots;              // CpuLocal of the counters
  using Allocator = StandardAllocator;  // I/O addresses, thread-safe
  template <class T>
  using Atom = std::atomic<T>;
  // Whether Unmap and Sync compare what is handed back with what was recorded
  // (guarantees 4 and 9). Without, a wrong size or an old mapping is believed
  // as long as some mapping begins there: for embedders who have shown their
  // drivers right elsewhere.
  static constexpr bool kCheckMappings = true;
  // FlushQueuePolicy of a deferred domain: its clock and its locks.
  using Flush = FlushQueuePolicy;
  // AsymmetricFence between maps, which are many, and faults, which are few.
  template <template <class> class A>
  using Fence = SymmetricFence<A>;
};

// A mapping or coherent block that nobody has ended.
struct Leak {
  enum class Kind : std::uint8_t { kStream, kCoherent, kReservation };
  Kind kind = Kind::kStream;
  Range range;      // I/O addresses
  PhysAddr memory;  // the buffer, the block's own memory, or nothing
  Direction direction = Direction::kBidirectional;
  std::uint32_t tag = 0;  // Mapping's, Reservation's; 0 for a coherent block
};

struct DomainOptions {
  // The last usable I/O address, inclusive; the last byte of a page, and not
  // below bounce_size.
  Iova limit{0xffff'ffff};
  // Bytes of the stream space [0, bounce_size-1]; whole bounce pages, for each
  // owner at least two of what a mapping is rounded out to. Of these the first
  // is never handed out. The coherent space is [bounce_size, limit].
  std::uint64_t bounce_size = std::uint64_t{64} << 20;
  // A slot: what a mapping is rounded out to, 64 bytes to 1 GiB.
  PageSize page = PageSize();
  // The unit of bounce memory, from `page` to 1 GiB: what a device process maps
  // at a time. Mappings are rounded out to it instead, unless they may share.
  PageSize bounce_page = page;
  // Whose buffers a bounce page may show together (owner.h). With kOwner, Fault
  // lets a device that may read one of them read all, also the original bytes
  // of those that it may only write to: these must be there (guarantee 2), and
  // a page has one permission. Translate keeps them apart. Where that matters,
  // take kNothing, or map with kDeviceOverwritesAll, which shows zeros. Behind
  // an IommuMap no page ever shows two buffers but the buffers' own (kDirect).
  PageSharing sharing = PageSharing::kNothing;
  // How many owners there are, not 0: parts of the stream space, as equal as
  // whole bounce pages allow. Behind an IommuMap they share it.
  std::uint32_t owners = 1;
  // Low bits of the buffer's address that its I/O address must have too (as
  // NVMe demands): 2^k - 1, less than a page. 0: each mapping begins on a page.
  std::uint64_t min_align_mask = 0;
  // Most mappings and coherent blocks at a time, together; 0: no bound. A bound
  // makes all threads count on one counter.
  std::size_t max_mappings = 0;
  // All but kBounce: kUnsupported unless the Invalidation is an IommuMap. With
  // one, `page` is at least its page, and bounce_page is not used.
  DomainMode mode = DomainMode::kBounce;
  // kAutomatic: bytes of the stream space, from its beginning, for the pool,
  // whole pages; the rest is for mappings. 0: half.
  std::uint64_t pool_size = 0;
  AutomaticOptions automatic = {};
  // What MapScatter makes descriptors of.
  SegmentLimits segments = {};
  // Whether Unmap waits for its invalidation (kStrict), or its address, and
  // whatever a device may still reach, waits for one that serves many. Then
  // what a device writes between an Unmap and that invalidation goes to a
  // bounce page that nobody reads, or, where the device reaches a buffer
  // itself, into that buffer: see on_safe.
  FlushQueueOptions flush = {.mode = FlushMode::kStrict};
  // Called once for each piece of a buffer that the device reached itself, when
  // it cannot any more: by Unmap if that is strict, later if it is deferred, by
  // whoever waits for the invalidation. Never for what is in quarantine. Null:
  // nobody is told (Domain::Retired is another way to know). From any thread,
  // under a lock: it must not use the domain.
  void (*on_safe)(void* context, PhysRange memory) = nullptr;
  void* safe_context = nullptr;
  // Called by the destructor, in order of addresses, for each mapping and block
  // that is live then; after a Shutdown that succeeded none is. Null: nobody is
  // told. It must not use the domain, and allocates nothing unless it wants to.
  void (*on_leak)(void* context, const Leak& leak) = nullptr;
  void* leak_context = nullptr;
};

// One element of a scatter list: `size` bytes (not 0) at `buffer`.
struct ScatterEntry {
  PhysAddr buffer;
  std::uint64_t size = 0;
};

// A page as Fault shows it.
struct FaultPage {
  std::byte* page = nullptr;                  // all of the page, in host memory
  Range range;                                // its I/O addresses
  Permission permission = Permission::kNone;  // of all mappings on it, together
};

// Memory that a device may use, as Translate shows it.
struct DeviceView {
  std::byte* data = nullptr;
  std::uint64_t length = 0;  // bytes, up to the end of the page or the mapping
};

// What Shutdown does when mappings are live.
enum class Teardown : std::uint8_t {
  kRefuseIfLive,  // kBusy, and the domain goes on
  kForce,         // ends them; nothing is copied back
};

// Calls of Unmap, Sync and Unlink that named what is not so, by what is wrong.
struct RefusedCalls {
  std::uint64_t not_mapped = 0;  // ended already, or never made
  // An earlier mapping's, though its address is in use; another domain's.
  std::uint64_t of_another = 0;
  std::uint64_t wrong_direction = 0;
  std::uint64_t wrong_size = 0;
  std::uint64_t outside = 0;  // a Sync beyond its mapping

  friend constexpr bool operator==(const RefusedCalls&,
                                   const RefusedCalls&) = default;
};

struct DomainStats {
  std::uint64_t bytes_to_device = 0;    // copied from buffers to bounce pages
  std::uint64_t bytes_from_device = 0;  // copied from bounce pages to buffers
  std::uint64_t maps = 0;               // streaming mappings ever made
  std::array<std::uint64_t, 3> maps_by_direction = {};  // index: Direction
  std::uint64_t unmaps = 0;                             // and ended
  std::uint64_t faults = 0;  // bounce pages made and filled
  // Of what is not so: Unmap, Sync, the two-step form, FreeCoherent; all. (A
  // list that names one mapping twice is counted here alone.)
  std::uint64_t refused = 0;
  RefusedCalls refused_calls = {};
  std::uint64_t live = 0;         // streaming mappings now
  std::uint64_t high_water = 0;   // most of them at a time (counters.h)
  std::uint64_t coherent = 0;     // coherent blocks now
  std::uint64_t quarantined = 0;  // of both, given up: invalidation failed
  std::uint64_t waiting = 0;      // unmapped, for an invalidation (deferred)
  std::uint64_t copy_limit = 0;   // kAutomatic: bytes; what is longer is mapped
};

namespace internal {

// Without tables: what a mapping is rounded out to, and the bytes of the stream
// space that an owner has.
constexpr PageSize GranuleOf(const DomainOptions& o) {
  return o.sharing == PageSharing::kNothing ? o.bounce_page : o.page;
}
constexpr std::uint64_t PartOf(const DomainOptions& o) {
  return o.bounce_page.RoundDown(o.bounce_size / o.owners);
}

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_OPTIONS_H_
