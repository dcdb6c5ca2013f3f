// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_DMAMAP_DOMAIN_SUBJECT_H_
#define DMAMAP_BENCHMARKS_DMAMAP_DOMAIN_SUBJECT_H_

// dmamap's Domain as a DomainSubject (peers/domain_subject.h), composed of
// `Policies`: 4 KiB pages, a mapping's pages its own, every check as the
// policies have it. (DmamapDomain, beside it, is what replays traces.)

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "benchmarks/peers/domain_subject.h"
#include "bounce/huge_pages.h"
#include "dma/address.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "domain/domain.h"
#include "domain/linux.h"

namespace dmamap::bench {

// What a driver in a Linux process would take. Its bounce pages lie side by
// side.
struct MeasuredPolicies : LinuxDomainPolicies {
  using Pages = HugePages;
};

// The same without the check of what is handed back.
struct UncheckedPolicies : MeasuredPolicies {
  static constexpr bool kCheckMappings = false;
};

template <class Policies = DomainPolicies>
class DmamapDomainSubject {
 public:
  static constexpr bool kMaps = true;
  using Handle = Mapping;

  static absl::StatusOr<std::unique_ptr<DmamapDomainSubject>> Create(
      const peers::DomainSpace& space) {
    auto made = std::make_unique<DmamapDomainSubject>();
    DomainOptions options;
    options.bounce_size = space.bounce_bytes;
    options.limit =
        Iova(std::max(options.limit.value(), space.bounce_bytes - 1));
    if constexpr (std::is_same_v<typename Policies::Pages, HugePages>) {
      if (!made->domain_.pages().Init({}).ok()) {
        return absl::InternalError("no address space for bounce pages");
      }
    }
    if (!made->domain_.Init(options).ok()) {
      return absl::InternalError("the domain did not start");
    }
    return made;
  }
  absl::Status EnterThread(unsigned) { return absl::OkStatus(); }
  void LeaveThread(unsigned) {}

  bool Map(std::byte* buffer, std::size_t bytes, Direction direction,
           MapAttributes attributes, Handle& handle) {
    const Result<Mapping> mapping =
        domain_.Map(PhysAddrOf(buffer), bytes, direction, attributes);
    if (!mapping.ok()) return false;
    // One by one: g++ 12 would copy the whole by wider loads than the fields
    // were stored with, for which the CPU waits, and the Unmap of this loop
    // with it. Drivers unmap later.
    handle.iova = mapping->iova;
    handle.size = mapping->size;
    handle.direction = mapping->direction;
    handle.tag = mapping->tag;
    return true;
  }
  bool Unmap(const Handle& handle, std::size_t, Direction,
             MapAttributes attributes) {
    return domain_.Unmap(handle, attributes).ok();
  }
  std::span<std::byte> DeviceBytes(const Handle& handle, std::size_t offset,
                                   Direction direction) {
    if (offset >= handle.size) return {};
    const Result<DeviceView> view = domain_.Translate(
        handle.iova + offset, handle.size - offset, PermissionFor(direction));
    if (!view.ok()) return {};
    return {view->data, static_cast<std::size_t>(view->length)};
  }
  std::uint64_t bytes_copied() const {
    const DomainStats stats = domain_.stats();
    return stats.bytes_to_device + stats.bytes_from_device;
  }

 private:
  Domain<Policies> domain_;
};
static_assert(peers::CopyCountingSubject<DmamapDomainSubject<>>);

// A domain for each of up to two threads: what the machine makes of two that
// share nothing.
template <class Policies = DomainPolicies>
class TwoDomainsSubject {
  using One = DmamapDomainSubject<Policies>;

 public:
  static constexpr bool kMaps = true;
  using Handle = typename One::Handle;

  static absl::StatusOr<std::unique_ptr<TwoDomainsSubject>> Create(
      const peers::DomainSpace& space) {
    if (space.threads > 2) return absl::InvalidArgumentError("two domains");
    auto made = std::make_unique<TwoDomainsSubject>();
    for (std::unique_ptr<One>& domain : made->domains_) {
      absl::StatusOr<std::unique_ptr<One>> one = One::Create(space);
      if (!one.ok()) return one.status();
      domain = *std::move(one);
    }
    return made;
  }
  absl::Status EnterThread(unsigned tid) {
    mine_ = domains_[tid].get();
    return absl::OkStatus();
  }
  void LeaveThread(unsigned) { mine_ = nullptr; }

  bool Map(std::byte* buffer, std::size_t bytes, Direction direction,
           MapAttributes attributes, Handle& handle) {
    return mine_->Map(buffer, bytes, direction, attributes, handle);
  }
  bool Unmap(const Handle& handle, std::size_t bytes, Direction direction,
             MapAttributes attributes) {
    return mine_->Unmap(handle, bytes, direction, attributes);
  }
  std::span<std::byte> DeviceBytes(const Handle& handle, std::size_t offset,
                                   Direction direction) {
    return mine_->DeviceBytes(handle, offset, direction);
  }
  std::uint64_t bytes_copied() const {
    return domains_[0]->bytes_copied() + domains_[1]->bytes_copied();
  }

 private:
  // Of the calling thread, which runs for one subject alone.
  static inline constinit thread_local One* mine_ = nullptr;
  std::array<std::unique_ptr<One>, 2> domains_;
};
static_assert(peers::CopyCountingSubject<TwoDomainsSubject<>>);

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_DMAMAP_DOMAIN_SUBJECT_H_
