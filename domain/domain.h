// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_DOMAIN_H_
#define DMAMAP_DOMAIN_DOMAIN_H_

// Domain: one device's view of memory, complete: I/O addresses, IOTLB, bounce
// pages. The device never reaches a buffer, only pages that show it.
//
//   Domain<> domain;
//   domain.Init({.bounce_size = 64 << 20});
//   auto m = domain.Map(PhysAddrOf(buffer), 1500, Direction::kFromDevice);
//   ... tell the device m->iova; it writes ...
//   domain.Unmap(*m);                     // what it wrote is in `buffer`
//
// I/O addresses   0 | stream space: mappings | coherent blocks     | limit
//                 page 0 never      bounce_size
// A mapping begins on a page (min_align_mask: or as far behind as its buffer
// does) and has its pages alone (DomainOptions::sharing). Bounce pages come
// when a device first touches them (Fault, Translate) and stay for later
// mappings, which overwrite them.
//
// What the driver may rely on (numbers: the guarantees)
//   1,3  the device sees the bytes of live mappings, zeros, and what it wrote
//        itself; nothing outside the mapping is shown or copied back. (Where a
//        mapping has ended, its bytes stay on a page of its own until the slot
//        has the next one: the device has seen them.)
//   2    what the device did not write stays as it was: the original is copied
//        in by Map and SyncForDevice for kFromDevice too, unless the mapping
//        has kDeviceOverwritesAll (then zeros) or Map has kSkipSync.
//   4,9  Unmap and Sync go by the record of Map; what does not match it is an
//        error and changes nothing.
//   10   Unmap: no new access, Invalidate, copy back, and only then the address
//        is free. If Invalidate fails, it never is (quarantine).
// A fault reads the buffer: until a page has been touched, a device that does
// not keep to its turn may see what the CPU writes meanwhile to that mapping.
//
// Threads: all calls but Init and the destructor may be made at any time. Map,
// Unmap and Sync take no lock and write nothing that another thread writes; one
// of them waits only while a fault makes a page of its own mapping, or Shutdown
// makes up its mind. Coherent blocks are under a lock (LockType). Not for an
// interrupt that may interrupt a call. Ordering towards the device is the
// driver's (dma/barrier.h), as in Linux. A software device that uses a pointer
// from Translate needs an Invalidation that waits until it does not, from
// before it calls Translate on.
//
// Errors common to all: kShutDown before Init and (to the driver; the device
// finds nothing mapped) after Shutdown; kInvalidArgument; kUnsupported when
// Memory cannot reach a byte of a buffer. A call that fails has changed
// nothing; the exceptions say so, and each Map that fails as the Invalidation
// does is one: the device may keep the buffer (docs/modes.md).

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/iommu_map.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "domain/coherent.h"
#include "domain/core.h"
#include "domain/mapped_stream.h"
#include "domain/mode.h"
#include "domain/options.h"
#include "domain/owner.h"
#include "domain/segments.h"
#include "domain/stream.h"

namespace dmamap::inline v0 {

template <class Policies = DomainPolicies>
class Domain {
  using Core = internal::DomainCore<Policies>;
  using LockType = typename Policies::LockType;

 public:
  Domain() = default;
  Domain(const Domain&) = delete;
  Domain& operator=(const Domain&) = delete;
  // Tells DomainOptions::on_leak what is still live, copies nothing back, and
  // frees all memory, quarantine included. REQUIRES: no call is under way, and
  // no device can reach the domain any more.
  ~Domain();

  // The policies, to be configured before Init.
  typename Policies::Memory& memory() { return core_.memory; }
  typename Policies::Pages& pages() { return core_.pages; }
  typename Policies::Invalidation& invalidation() { return core_.invalidation; }

  // kInvalidArgument: DomainOptions says what must hold. kUnsupported: `limit`
  // lies beyond 2^52 pages. kNoMemory. kBusy the second time. After an error
  // Init may be called again.
  Result<void> Init(const DomainOptions& options);

  // --- The driver's side: a CoherentMapper ---

  // The same for one of DomainOptions::owners.
  OwnedDomain<Domain> For(BufferOwner owner) { return {*this, owner}; }

  static constexpr bool kOverwrittenSyncsNothing = true;

  // Shows `size` bytes (not 0) from `buffer`. kNoSpace, kNoMemory, kOverflow,
  // kLimit (max_mappings); in modes but kBounce as PageSource and IommuMap
  // fail. kDeviceOverwritesAll goes with kFromDevice only. Map and Unmap take
  // time for each page of `size`, touched or not, and Map 64 bytes for each,
  // kept until the destructor: 1 TiB in pages of 4 KiB takes seconds and 16
  // GiB. Bound a size that somebody else chooses, or the bounce_size.
  [[gnu::always_inline]] Result<Mapping> Map(
      PhysAddr buffer, std::uint64_t size, Direction direction,
      MapAttributes attributes = MapAttributes::kNone, BufferOwner owner = {}) {
    if (!core_.IsOpen()) return Error::kShutDown;
    return spaces_->stream.Map(buffer, size, direction, attributes, owner);
  }

  // kNotMapped: no such mapping (any more). kMismatch: there is one at this
  // address, but not this one. kBusy: a Sync of it is under way, or an
  // UnmapScatter that may yet be refused. After these it
  // is as before. kUnsupported, and what the Invalidation returns: the mapping
  // has ended; bytes that Memory cannot reach were not copied back.
  [[gnu::always_inline]] Result<void> Unmap(
      const Mapping& mapping, MapAttributes attributes = MapAttributes::kNone) {
    if (!core_.IsOpen()) return Error::kShutDown;
    return spaces_->stream.Unmap({&mapping, 1}, attributes);
  }

  // Copies [offset, offset+size) of the mapping. kNotMapped and kMismatch as
  // for Unmap, kOutOfRange beyond the mapping. SyncForDevice of a mapping made
  // with kSkipSync takes the memory for pages that no device has touched yet:
  // as the PageSource fails.
  Result<void> SyncForCpu(const Mapping& mapping, std::uint64_t offset,
                          std::uint64_t size) {
    if (!core_.IsOpen()) return Error::kShutDown;
    return spaces_->stream.SyncForCpu(mapping, offset, size);
  }
  Result<void> SyncForDevice(const Mapping& mapping, std::uint64_t offset,
                             std::uint64_t size) {
    if (!core_.IsOpen()) return Error::kShutDown;
    return spaces_->stream.SyncForDevice(mapping, offset, size);
  }

  // One mapping for each entry, in order, into the front of `mappings`; all or
  // none. kInvalidArgument for an empty list or too few `mappings`.
  Result<void> MapScatter(std::span<const ScatterEntry> list,
                          Direction direction, std::span<Mapping> mappings,
                          MapAttributes attributes = MapAttributes::kNone,
                          BufferOwner owner = {});
  // The same, and how many segments (DomainOptions::segments) the device is
  // told, into the front of `segments`. kLimit: they do not fit; none is
  // mapped.
  Result<std::size_t> MapScatter(
      std::span<const ScatterEntry> list, Direction direction,
      std::span<Mapping> mappings, std::span<DeviceSegment> segments,
      MapAttributes attributes = MapAttributes::kNone, BufferOwner owner = {});
  // Ends all, or, when one of them is refused, none; errors as for Unmap.
  Result<void> UnmapScatter(std::span<const Mapping> mappings,
                            MapAttributes attributes = MapAttributes::kNone) {
    if (!core_.IsOpen()) return Error::kShutDown;
    if (mappings.empty()) return Error::kInvalidArgument;
    return spaces_->stream.Unmap(mappings, attributes);
  }

  // `size` zeroed bytes (not 0) on pages of their own. kNoSpace, kNoMemory,
  // kLimit (max_mappings), or as the PageSource fails.
  Result<CoherentBlock> AllocateCoherent(std::uint64_t size) {
    if (!core_.IsOpen()) return Error::kShutDown;
    return spaces_->coherent.Allocate(size);
  }
  // kNotMapped, kMismatch as for Unmap. What the Invalidation returns: the
  // block has ended, its memory is kept.
  Result<void> FreeCoherent(const CoherentBlock& block) {
    if (!core_.IsOpen()) return Error::kShutDown;
    return spaces_->coherent.Free(block);
  }

  // --- Addresses first, buffers later ---
  // For a buffer that comes in pieces: the addresses are taken once, in one
  // run. kUnsupported without an IommuMap, and with kPooled.

  // Takes the addresses of `size` bytes (not 0), the first as far into its page
  // as `like` is. kNoSpace, kNoMemory, kLimit.
  Result<Reservation> Reserve(std::uint64_t size, PhysAddr like = PhysAddr());
  // Puts `size` bytes from `buffer` behind the addresses from `offset` on; a
  // mapping like any other, but that Unlink ends it and not Unmap (kMismatch).
  // The device may use it after SyncLinks. kOutOfRange beyond the reservation,
  // kInvalidArgument when address and buffer differ in their offset in a page,
  // kOverlap when a page has a link; kNotMapped, kMismatch; and as Map.
  Result<Mapping> Link(const Reservation& reservation, std::uint64_t offset,
                       PhysAddr buffer, std::uint64_t size, Direction direction,
                       MapAttributes attributes = MapAttributes::kNone);
  // Once, for all links made before. What the IommuMap returns: they are not to
  // be used, but are still to be unlinked.
  Result<void> SyncLinks(const Reservation& reservation);
  // Ends all, or none, with one invalidation, deferred domains too. Errors as
  // for UnmapScatter. Their addresses stay the reservation's.
  Result<void> Unlink(std::span<const Mapping> links,
                      MapAttributes attributes = MapAttributes::kNone);
  // Gives the addresses back. kBusy while a link lives, or is in quarantine.
  Result<void> Release(const Reservation& reservation);

  // --- When a buffer is safe (DomainOptions::flush) ---

  // Strict: what an Unmap has returned for is safe. Deferred: what the device
  // reached itself, it may reach until an invalidation is over. Retired()
  // stands for all Unmaps before it; IsSafe becomes true with later Unmaps,
  // Poll or Flush.
  SafetyTicket Retired() {
    return open() ? spaces_->stream.Ticket() : SafetyTicket{};
  }
  bool IsSafe(SafetyTicket ticket) const {
    return !open() || spaces_->stream.IsOver(ticket);
  }
  // Invalidates now for all that waits; Ok: all that was unmapped before is
  // safe and its addresses are free. What the Invalidation returns: it waits.
  Result<void> Flush() {
    return core_.IsOpen() ? spaces_->stream.Flush() : Error::kShutDown;
  }
  // For a timer: the same, if something waits longer than flush.max_age.
  Result<void> Poll() {
    return core_.IsOpen() ? spaces_->stream.Poll() : Error::kShutDown;
  }

  // --- The device's side ---

  // The memory behind `at` for an access of `wanted` (not kNone), `length`
  // bytes (not 0) or less: up to the end of the page or of the mapping.
  // kNotMapped, kPermission; as the PageSource fails (kBudget, kNoMemory,
  // kPoolEmpty) when there is no page to show; kBusy, try again, while
  // SwapPages moves the page. Good until the mapping ends.
  Result<DeviceView> Translate(Iova at, std::uint64_t length,
                               Permission wanted);

  // The page that holds `at`, for a device process that maps whole pages: with
  // stream mappings the bounce page, made if need be and filled from every
  // mapping on it; above bounce_size the coherent page. kNotMapped when nothing
  // is mapped on that page; else as the PageSource fails. Good until no mapping
  // lies on it. Its permission is that of all of them together: on a page that
  // several share, guarantee 2 goes before permissions, and a mapping that the
  // device may only write to shows its original bytes to one that may read a
  // neighbour (or to any process whose mmap cannot be write-only). Translate
  // never does. DomainOptions::sharing says how to avoid it.
  Result<FaultPage> Fault(Iova at);

  // --- Care ---

  // Gives the bounce pages of `pages` (whole ones) back to the PageSource;
  // returns how many. kBusy while a mapping lies on one of them. kOutOfRange
  // beyond the stream space; kUnsupported with tables.
  Result<std::uint64_t> Reclaim(Range pages) {
    if (!core_.IsOpen()) return Error::kShutDown;
    return spaces_->stream.Reclaim(pages);
  }
  // The same for every page that no mapping lies on.
  std::uint64_t ReclaimIdle() {
    return open() ? spaces_->stream.ReclaimIdle() : 0;
  }

  // Moves every bounce page to `to`, one's own pages or those that a user lent
  // (bounce/swappable_pages.h), under live mappings and without losing a byte;
  // returns how many. The device is made to forget each page (Invalidation) and
  // finds the new one by Translate or Fault. As the new pages fail: nothing has
  // changed. As the Invalidation fails, or kDevice for a mapping in quarantine:
  // those pages stay where they are; call it again. kBusy beside another swap.
  Result<std::uint64_t> SwapPages(PageHome to) requires
      SwappableSource<typename Policies::Pages> {
    if (!core_.IsOpen()) return Error::kShutDown;
    return spaces_->stream.SwapPages(to);
  }

  // Calls report(const Leak&) for each live mapping and coherent block, in
  // order of addresses, without the lock; returns how many. What other threads
  // map or end meanwhile may be among them or not.
  template <class Report>
  std::uint64_t ReportLeaks(Report&& report) const;

  // Ends the domain: no call is accepted any more. kBusy, and the domain goes
  // on, while anything is live or an Unmap or FreeCoherent is under way; then
  // what is live is reported (nothing, if other threads have ended it since).
  // kForce reports, and ends it all the same; nothing is copied back.
  // REQUIRES for kForce: no other call is under way. What the Invalidation
  // returns: the domain has ended, its memory is kept until the destructor.
  template <class Report>
  Result<void> Shutdown(Report&& report,
                        Teardown teardown = Teardown::kRefuseIfLive);

  // Exact while no other call is under way; else each figure is one of some
  // moment.
  DomainStats stats() const;
  const DomainOptions& options() const { return options_; }

  // REQUIRES: no other call is under way. O(n log n) in mappings.
  bool CheckInvariants() const {
    if (!open()) return true;
    Guard guard(core_.lock);
    return core_.iotlb.CheckInvariants() && !core_.IsEnding() &&
           core_.iotlb.size() == core_.coherent &&
           spaces_->stream.CheckInvariants() &&
           spaces_->coherent.CheckInvariants();
  }

 private:
  // Whether the device goes through tables that the domain fills.
  static constexpr bool kHasTables = IommuMap<typename Policies::Invalidation>;
  struct Spaces {
    using Stream = typename internal::StreamFor<Policies, kHasTables>::Type;
    explicit Spaces(Core& core) : stream(core), coherent(core) {}
    Stream stream;
    internal::CoherentSpace<Policies> coherent;
  };

  // True from Init on, also after Shutdown.
  bool open() const {
    // O2, acquire: pairs with O1 in Init.
    return core_.phase.load(std::memory_order_acquire) !=
           internal::DomainPhase::kNotYet;
  }
  static Result<void> Validate(const DomainOptions& o);
  Result<DeviceView> TranslateBounced(Iova at, std::uint64_t length,
                                      Permission wanted);
  Result<FaultPage> FaultBounced(Iova at);
  // REQUIRES: open(), kHasTables.
  bool HasTables() const { return spaces_->stream.has_tables(); }
  void DestroySpaces() {
    if (spaces_ != nullptr) spaces_->~Spaces();
    spaces_ = nullptr;
  }

  mutable Core core_;
  // spaces_ lives in room_ from Init on, or is null. (By hand: g++ 12 warns of
  // std::optional's members in each function with a local Domain.)
  alignas(Spaces) std::byte room_[sizeof(Spaces)];
  Spaces* spaces_ = nullptr;
  DomainOptions options_;
};

static_assert(CoherentMapper<Domain<>>);

}  // namespace dmamap::inline v0

#include "domain/device_side.h"  // IWYU pragma: export
#include "domain/driver_side.h"  // IWYU pragma: export
#include "domain/setup.h"        // IWYU pragma: export
#include "domain/teardown.h"     // IWYU pragma: export

#endif  // DMAMAP_DOMAIN_DOMAIN_H_
