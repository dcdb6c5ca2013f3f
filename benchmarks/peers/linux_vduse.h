// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_LINUX_VDUSE_H_
#define DMAMAP_BENCHMARKS_PEERS_LINUX_VDUSE_H_

// The bounce domain of Linux 6.12's VDUSE (drivers/vdpa/vdpa_user/iova_domain.c
// over iova.c and iotlb.c, all compiled unchanged) as a DomainSubject. Units:
// bytes.
//
// Threads: any number up to 15, each of which has entered with a number of its
// own. A mapping may be ended by another thread than made it. VDUSE checks
// nothing: Unmap() always says true.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "benchmarks/peers/domain_subject.h"
#include "benchmarks/peers/linux_kernel.h"

namespace dmamap::peers {

class LinuxVduse {
 public:
  static constexpr bool kMaps = true;
  using Handle = std::uint64_t;  // the I/O address

  static absl::StatusOr<std::unique_ptr<LinuxVduse>> Create(
      const DomainSpace& space) {
    // The coherent space begins where the bounce space ends.
    constexpr std::uint64_t kCoherentBytes = 256 << 20;
    vduse_iova_domain* domain =
        dmamap_linux_vduse_create(space.bounce_bytes + kCoherentBytes - 1,
                                  space.bounce_bytes, space.threads);
    if (domain == nullptr) return absl::ResourceExhaustedError("VDUSE domain");
    return std::unique_ptr<LinuxVduse>(new LinuxVduse(domain));
  }
  // Nothing may be mapped any more.
  ~LinuxVduse() { dmamap_linux_vduse_destroy(domain_); }
  LinuxVduse(const LinuxVduse&) = delete;
  LinuxVduse& operator=(const LinuxVduse&) = delete;

  absl::Status EnterThread(unsigned tid) {
    dmamap_linux_enter_cpu(tid);
    return absl::OkStatus();
  }
  void LeaveThread(unsigned) {}

  bool Map(std::byte* buffer, std::size_t bytes, Direction direction,
           MapAttributes attributes, Handle& iova) {
    iova = dmamap_linux_vduse_map(domain_, buffer, bytes, Number(direction),
                                  Has(attributes, MapAttributes::kSkipSync));
    return iova != ~std::uint64_t{0};
  }
  bool Unmap(Handle iova, std::size_t bytes, Direction direction,
             MapAttributes attributes) {
    dmamap_linux_vduse_unmap(domain_, iova, bytes, Number(direction),
                             Has(attributes, MapAttributes::kSkipSync));
    return true;
  }
  void SyncForCpu(Handle iova, std::size_t bytes, Direction direction) {
    dmamap_linux_vduse_sync_for_cpu(domain_, iova, bytes, Number(direction));
  }
  void SyncForDevice(Handle iova, std::size_t bytes, Direction direction) {
    dmamap_linux_vduse_sync_for_device(domain_, iova, bytes, Number(direction));
  }
  // Its pages are there from Map on.
  std::span<std::byte> DeviceBytes(Handle iova, std::size_t offset, Direction) {
    const std::uint64_t at = iova + offset;
    std::byte* page = DevicePage(at);
    if (page == nullptr) return {};
    return {page + at % 4096, static_cast<std::size_t>(4096 - at % 4096)};
  }
  // The 4 KiB page that the device sees around `iova`; null when there is none.
  std::byte* DevicePage(Handle iova) {
    return static_cast<std::byte*>(
        dmamap_linux_vduse_device_page(domain_, iova));
  }

 private:
  explicit LinuxVduse(vduse_iova_domain* domain) : domain_(domain) {}
  // Direction has the kernel's numbers.
  static int Number(Direction direction) { return static_cast<int>(direction); }

  vduse_iova_domain* const domain_;
};

static_assert(DomainSubject<LinuxVduse>);

}  // namespace dmamap::peers

#endif  // DMAMAP_BENCHMARKS_PEERS_LINUX_VDUSE_H_
