// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_MODE_SUBJECT_H_
#define DMAMAP_BENCHMARKS_MODE_SUBJECT_H_

// A Domain over page tables as a DomainSubject, in a mode, with a device whose
// invalidations take a given time.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "benchmarks/peers/domain_subject.h"
#include "bounce/huge_pages.h"
#include "dma/address.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "domain/domain.h"
#include "domain/linux.h"
#include "iotlb/software_iommu.h"

namespace dmamap::bench {

inline std::uint64_t NowNs() {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(
          std::chrono::steady_clock::now().time_since_epoch())
          .count());
}

// The IOTLB, and a wait for each invalidation: as a driver waits for the
// descriptor behind his own in an IOMMU's queue.
class SlowIommu : public SoftwareIommu {
 public:
  static inline std::uint64_t invalidation_ns = 500;  // set before it is used

  Result<void> Invalidate(Range) { return InvalidateAll(); }
  Result<void> InvalidateAll() {
    const std::uint64_t begin = NowNs();
    const Result<void> done = SoftwareIommu::InvalidateAll();
    while (NowNs() - begin < invalidation_ns) CpuRelax();
    return done;
  }
};

struct SlowPolicies : LinuxDomainPolicies {
  using Pages = HugePages;
  using Invalidation = SlowIommu;
};

template <DomainMode kMode>
class ModeSubject {
 public:
  static constexpr bool kMaps = true;
  using Handle = Mapping;

  static absl::StatusOr<std::unique_ptr<ModeSubject>> Create(
      const peers::DomainSpace& space) {
    auto made = std::make_unique<ModeSubject>();
    DomainOptions options;
    options.bounce_size = 4 * space.bounce_bytes;
    options.mode = kMode;
    options.automatic.clock = [](void*) { return NowNs(); };
    if (!made->domain_.pages().Init({}).ok() ||
        !made->domain_.invalidation().Init().ok() ||
        !made->domain_.Init(options).ok()) {
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
    handle = *mapping;
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

 private:
  Domain<SlowPolicies> domain_;
};
static_assert(peers::DomainSubject<ModeSubject<DomainMode::kPooled>>);

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_MODE_SUBJECT_H_
