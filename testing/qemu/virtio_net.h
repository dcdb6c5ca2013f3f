// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_QEMU_VIRTIO_NET_H_
#define DMAMAP_TESTING_QEMU_VIRTIO_NET_H_

// QEMU's modern virtio-net on PCI, one queue each way, as nicring's rings want
// it. Start the receiver first: the transmitter's Start says DRIVER_OK. Abort
// of either resets the device, for it has no other way to stop a queue; after
// that, Negotiate and both Starts again.
//
// Give the device iommu_platform=on, or it goes past the IOMMU, and vectors=0:
// with MSI-X, QEMU 7.2 under TCG ends itself here.
//
// Source: Virtual I/O Device (VIRTIO) Version 1.2, 3.1 (initialization), 4.1.4
// (PCI capabilities; 4.1.4.3 common configuration, 4.1.4.4 notification,
// 4.1.4.5 ISR status).

#include <cstdint>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/receiver.h"
#include "nicring/virtio_layout.h"
#include "testing/qemu/pci.h"

namespace dmamap::inline v0 {

class QemuVirtioNet {
 public:
  static constexpr std::uint64_t kAccessPlatform = std::uint64_t{1} << 33;

  // One direction. A DoorbellPort.
  class Queue {
   public:
    Queue(QemuVirtioNet* nic, std::uint16_t index) : nic_(nic), index_(index) {}
    Result<void> Start(const RingAddresses& ring) {
      return nic_->StartQueue(index_, ring);
    }
    void Doorbell(std::uint32_t) { nic_->Notify(index_); }
    void Abort() { nic_->Reset(); }

   private:
    QemuVirtioNet* nic_;
    std::uint16_t index_;
  };

  explicit QemuVirtioNet(PciFunction* function) : function_(function) {}
  Queue& receiver() { return receiver_; }
  Queue& transmitter() { return transmitter_; }

  // Resets it and agrees on `wanted` as far as it has them, with VERSION_1 and
  // ACCESS_PLATFORM, without which it is kUnsupported, as it is without the
  // capabilities.
  Result<void> Negotiate(std::uint64_t wanted);
  std::uint64_t features() const { return features_; }

  // The IsrRegister of a VirtioLine. Nonzero: it was its interrupt, which is
  // lowered.
  std::uint8_t ReadIsr() {
    return function_->Read<std::uint8_t>(isr_.bar, isr_.offset);
  }
  void OnConfigurationChange() {}
  // It found that something cannot be (DEVICE_NEEDS_RESET).
  bool NeedsReset() { return (Common<std::uint8_t>(20) & 0x40) != 0; }

 private:
  static constexpr std::uint8_t kAcknowledge = 1;
  static constexpr std::uint8_t kDriver = 2;
  static constexpr std::uint8_t kDriverOk = 4;
  static constexpr std::uint8_t kFeaturesOk = 8;

  struct Place {
    unsigned bar = 0;
    std::uint32_t offset = 0;
    bool found = false;
  };

  template <class Width>
  Width Common(std::uint32_t at) {
    return function_->Read<Width>(common_.bar, common_.offset + at);
  }
  template <class Width>
  void SetCommon(std::uint32_t at, Width value) {
    function_->Write<Width>(common_.bar, common_.offset + at, value);
  }
  void SetAddress(std::uint32_t at, Iova address) {
    SetCommon(at, static_cast<std::uint32_t>(address.value()));
    SetCommon(at + 4, static_cast<std::uint32_t>(address.value() >> 32));
  }
  void FindPlaces();
  void Reset() {
    SetCommon<std::uint8_t>(20, 0);
    // The device says 0 when it is done; QEMU is at once.
    for (int i = 0; i < 100 && Common<std::uint8_t>(20) != 0; ++i) {
    }
  }
  Result<void> StartQueue(std::uint16_t index, const RingAddresses& ring) {
    SetCommon(22, index);
    if (Common<std::uint16_t>(24) < ring.entries) return Error::kLimit;
    SetCommon(24, static_cast<std::uint16_t>(ring.entries));
    SetAddress(32, ring.descriptors);
    SetAddress(40, ring.driver);
    SetAddress(48, ring.device);
    notify_at_[index] = Common<std::uint16_t>(30) * notify_step_;
    SetCommon<std::uint16_t>(28, 1);
    if (index == 1) {
      SetCommon<std::uint8_t>(20,
                              kAcknowledge | kDriver | kFeaturesOk | kDriverOk);
      Notify(0);  // what was said too early
    }
    return Ok();
  }
  void Notify(std::uint16_t index) {
    function_->Write<std::uint16_t>(notify_.bar,
                                    notify_.offset + notify_at_[index], index);
  }

  PciFunction* function_;
  Place common_;
  Place notify_;
  Place isr_;
  std::uint32_t notify_step_ = 0;
  std::uint32_t notify_at_[2] = {0, 0};
  std::uint64_t features_ = 0;
  Queue receiver_{this, 0};
  Queue transmitter_{this, 1};
};
static_assert(DoorbellPort<QemuVirtioNet::Queue>);

inline void QemuVirtioNet::FindPlaces() {
  for (unsigned n = 0; n < 8; ++n) {
    const std::uint32_t at = function_->Capability(9, n);
    if (at == 0) return;
    const std::uint32_t kind = function_->Config32(at) >> 24;
    const Place place = {function_->Config32(at + 4) & 0xff,
                         function_->Config32(at + 8), true};
    if (kind == 1) common_ = place;
    if (kind == 2) {
      notify_ = place;
      notify_step_ = function_->Config32(at + 16);
    }
    if (kind == 3) isr_ = place;
  }
}

inline Result<void> QemuVirtioNet::Negotiate(std::uint64_t wanted) {
  FindPlaces();
  if (!common_.found || !notify_.found || !isr_.found) {
    return Error::kUnsupported;
  }
  Reset();
  SetCommon<std::uint8_t>(20, kAcknowledge | kDriver);
  std::uint64_t offered = 0;
  for (std::uint32_t half = 0; half < 2; ++half) {
    SetCommon(0, half);
    offered |= std::uint64_t{Common<std::uint32_t>(4)} << half * 32;
  }
  const std::uint64_t must = virtio::kVersion1 | kAccessPlatform;
  features_ = offered & (wanted | must);
  if ((features_ & must) != must) return Error::kUnsupported;
  for (std::uint32_t half = 0; half < 2; ++half) {
    SetCommon(8, half);
    SetCommon(12, static_cast<std::uint32_t>(features_ >> half * 32));
  }
  SetCommon<std::uint8_t>(20, kAcknowledge | kDriver | kFeaturesOk);
  return (Common<std::uint8_t>(20) & kFeaturesOk) != 0
             ? Ok()
             : Result<void>(Error::kUnsupported);
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_QEMU_VIRTIO_NET_H_
