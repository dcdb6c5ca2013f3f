// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_COPYING_MAPPER_H_
#define DMAMAP_TESTING_COPYING_MAPPER_H_

// CopyingMapper: a fake Mapper that gives the device a copy of its own.
//
// Every byte goes over only when a driver says so: a missing sync, a sync of
// the wrong bytes or a wrong direction shows at once, where an identity mapping
// would forgive it. Device memory that the driver did not ask to be filled
// (kSkipSync, kDeviceOverwritesAll) holds kPoison; a buffer that only the
// device writes holds kPoison for the CPU until it is synced. I/O addresses are
// never used twice, and a hole lies between two mappings: an access after
// unmap, or past the end, is refused and counted.
//
// On the spot: on_violation is called in the middle of the access that is
// wrong, so that a test can stop there, the culprit on the stack. With `strict`
// that holds for a missing sync too: when the device reads what the driver has
// changed and not synced, and when a sync or unmap overwrites what the driver
// wrote while the buffer was the device's. Not for a test whose device runs
// between a driver's store and its sync: there both are right.
//
// The device reaches memory through port(). A hook runs before every operation,
// and between any two steps of a sync, for a test that lets the device run
// there: a copy is not atomic. Calls are serialised by a lock; the hook may
// call the port.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "testing/device_port.h"

namespace dmamap::inline v0 {

enum class CopyingViolation : std::uint8_t {
  kRefused,           // a driver's call that was wrong: also a wrong direction
  kDeviceNotMapped,   // a device access outside mappings
  kDevicePermission,  // a device access against the direction
  kStaleRead,         // strict: the device read what was not synced to it
  kLostWrite,         // strict: the driver wrote what was not its own
};

struct CopyingMapperOptions {
  Iova first = Iova(0x10000);  // of the first mapping
  // Bytes that a sync of at most 64 bytes copies in one step, and which end it
  // begins at: neither is promised to a driver.
  std::size_t copy_step = 2;
  bool descending = false;
  std::size_t limit = SIZE_MAX;  // live mappings; kLimit beyond
  bool strict = false;
  // Called inside the mapper's lock: must not call the mapper.
  std::function<void(CopyingViolation)> on_violation = nullptr;
};

struct CopyingMapperCounters {
  std::uint64_t maps = 0;
  std::uint64_t unmaps = 0;
  std::uint64_t refused = 0;            // driver calls that were wrong
  std::uint64_t device_not_mapped = 0;  // device accesses outside mappings
  std::uint64_t device_permission = 0;  // device accesses against direction
  std::uint64_t stale_reads = 0;        // strict
  std::uint64_t lost_writes = 0;        // strict
};

class CopyingMapper {
 public:
  static constexpr std::byte kPoison{0xdb};

  class Port {
   public:
    explicit Port(CopyingMapper* mapper) : mapper_(mapper) {}
    Transfer Read(Iova at, void* to, std::size_t n) {
      return mapper_->Access(
          at, n, Permission::kRead,
          [to](std::size_t done, std::byte* memory, std::size_t part) {
            std::memcpy(static_cast<std::byte*>(to) + done, memory, part);
          });
    }
    Transfer Write(Iova at, const void* from, std::size_t n) {
      return mapper_->Access(
          at, n, Permission::kWrite,
          [from](std::size_t done, std::byte* memory, std::size_t part) {
            std::memcpy(memory, static_cast<const std::byte*>(from) + done,
                        part);
          });
    }

   private:
    CopyingMapper* mapper_;
  };

  explicit CopyingMapper(const CopyingMapperOptions& options = {})
      : options_(options), next_(options.first) {}
  CopyingMapper(const CopyingMapper&) = delete;
  CopyingMapper& operator=(const CopyingMapper&) = delete;

  // kInvalidArgument, kOverflow, kLimit.
  Result<Mapping> Map(PhysAddr buffer, std::uint64_t size, Direction direction,
                      MapAttributes attributes = MapAttributes::kNone) {
    RunHook();
    const std::lock_guard guard(mutex_);
    if (!IsValid(direction)) return Refuse(Error::kInvalidArgument);
    const Result<PhysRange> range = PhysRange::FromSize(buffer, size);
    if (!range.ok()) return Refuse(range.error());
    if (live_.size() >= options_.limit) return Error::kLimit;
    Live live{buffer, {}, std::vector<std::byte>(size, kPoison), {}};
    if (!Has(attributes, MapAttributes::kSkipSync) &&
        !Has(attributes, MapAttributes::kDeviceOverwritesAll)) {
      std::memcpy(live.device.data(), PointerTo(buffer), size);
    }
    if (direction == Direction::kFromDevice) {
      std::memset(PointerTo(buffer), static_cast<int>(kPoison), size);
    }
    if (options_.strict) {
      live.shown.assign(PointerTo(buffer), PointerTo(buffer) + size);
    }
    live.mapping = Mapping{next_, size, direction, ++tag_};
    next_ = next_ + (size / kHole + 2) * kHole;
    ++counters_.maps;
    const Mapping mapping = live.mapping;
    live_.emplace(mapping.iova, std::move(live));
    return mapping;
  }

  // kForeign, kDoubleFree, kMismatch.
  Result<void> Unmap(const Mapping& mapping,
                     MapAttributes attributes = MapAttributes::kNone) {
    RunHook();
    const std::lock_guard guard(mutex_);
    const Result<Live*> live = Find(mapping);
    if (!live.ok()) return live.error();
    if (DeviceWrites(mapping.direction) &&
        !Has(attributes, MapAttributes::kSkipSync)) {
      FindLostWrite(**live, 0, (*live)->device.size());
      std::memcpy(PointerTo((*live)->buffer), (*live)->device.data(),
                  (*live)->device.size());
    }
    live_.erase(mapping.iova);
    ++counters_.unmaps;
    return Ok();
  }

  // Also kOutOfRange, and kPermission for a mapping the device cannot write.
  Result<void> SyncForCpu(const Mapping& mapping, std::uint64_t offset,
                          std::uint64_t size) {
    return Sync(mapping, offset, size, Permission::kWrite);
  }
  // Also kOutOfRange. Where the device only writes it hands the bytes back, as
  // in Linux's DMA API, and shows it what the CPU left there.
  Result<void> SyncForDevice(const Mapping& mapping, std::uint64_t offset,
                             std::uint64_t size) {
    return Sync(mapping, offset, size, Permission::kRead);
  }

  Port port() { return Port(this); }
  // Not while another thread is inside.
  void set_hook(std::function<void()> hook) { hook_ = std::move(hook); }

  std::size_t live() {
    const std::lock_guard guard(mutex_);
    return live_.size();
  }
  CopyingMapperCounters counters() {
    const std::lock_guard guard(mutex_);
    return counters_;
  }
  // Live mappings are disjoint, and all that were made are live or ended.
  bool CheckInvariants() {
    const std::lock_guard guard(mutex_);
    Iova end = Iova(0);
    for (const auto& [iova, live] : live_) {
      if (iova < end || live.mapping.iova != iova) return false;
      if (live.device.size() != live.mapping.size) return false;
      end = iova + live.mapping.size;
    }
    return counters_.maps == counters_.unmaps + live_.size();
  }

 private:
  static constexpr std::uint64_t kHole = 0x1000;

  struct Live {
    PhysAddr buffer;
    Mapping mapping;
    std::vector<std::byte> device;  // what the device sees
    std::vector<std::byte> shown;   // strict: the buffer when last synced
  };

  void Tell(std::uint64_t& counter, CopyingViolation violation) {
    ++counter;
    if (options_.on_violation) options_.on_violation(violation);
  }
  Error Refuse(Error error) {
    Tell(counters_.refused, CopyingViolation::kRefused);
    return error;
  }
  // True when the driver has written to [at, at+n) since the last sync of it.
  static bool Changed(const Live& live, std::size_t at, std::size_t n) {
    return !live.shown.empty() && std::memcmp(PointerTo(live.buffer) + at,
                                              live.shown.data() + at, n) != 0;
  }
  void FindLostWrite(const Live& live, std::size_t at, std::size_t n) {
    if (!Changed(live, at, n)) return;
    Tell(counters_.lost_writes, CopyingViolation::kLostWrite);
  }
  void RunHook() {
    if (hook_) hook_();
  }

  Result<Live*> Find(const Mapping& mapping) {
    const auto it = live_.find(mapping.iova);
    if (it == live_.end()) {
      const bool was = mapping.iova >= options_.first && mapping.iova < next_;
      return Refuse(was ? Error::kDoubleFree : Error::kForeign);
    }
    if (!(it->second.mapping == mapping)) return Refuse(Error::kMismatch);
    return &it->second;
  }

  Result<void> Sync(const Mapping& mapping, std::uint64_t offset,
                    std::uint64_t size, Permission device) {
    const std::size_t step = size > 64 || options_.copy_step == 0
                                 ? static_cast<std::size_t>(size)
                                 : options_.copy_step;
    const std::size_t steps =
        size == 0 ? 1 : static_cast<std::size_t>((size - 1) / step) + 1;
    for (std::size_t i = 0; i < steps; ++i) {
      RunHook();
      const std::lock_guard guard(mutex_);
      const Result<Live*> live = Find(mapping);
      if (!live.ok()) return live.error();
      if (size == 0) return Refuse(Error::kInvalidArgument);
      if (offset >= mapping.size || size > mapping.size - offset) {
        return Refuse(Error::kOutOfRange);
      }
      if (device == Permission::kWrite && !DeviceWrites(mapping.direction)) {
        return Refuse(Error::kPermission);
      }
      const std::size_t part = options_.descending ? steps - 1 - i : i;
      const std::size_t at = part * step;
      const std::size_t left = static_cast<std::size_t>(size) - at;
      const std::size_t from = static_cast<std::size_t>(offset) + at;
      const std::size_t n = left < step ? left : step;
      if (device == Permission::kWrite) FindLostWrite(**live, from, n);
      Copy(**live, from, n, device);
    }
    return Ok();
  }

  static void Copy(Live& live, std::size_t at, std::size_t n,
                   Permission device) {
    std::byte* cpu = PointerTo(live.buffer) + at;
    if (device == Permission::kWrite) {
      std::memcpy(cpu, live.device.data() + at, n);
    } else {
      std::memcpy(live.device.data() + at, cpu, n);
    }
    if (!live.shown.empty()) std::memcpy(live.shown.data() + at, cpu, n);
  }

  // Moves the prefix of [at, at+n) that lies in one mapping.
  template <class Move>
  Transfer Access(Iova at, std::size_t n, Permission wanted, Move&& move) {
    const std::lock_guard guard(mutex_);
    if (n == 0) return {0, Ok()};
    auto it = live_.upper_bound(at);
    if (it == live_.begin() || at - (--it)->first >= it->second.mapping.size) {
      Tell(counters_.device_not_mapped, CopyingViolation::kDeviceNotMapped);
      return {0, Error::kNotMapped};
    }
    Live& live = it->second;
    if (!Allows(PermissionFor(live.mapping.direction), wanted)) {
      Tell(counters_.device_permission, CopyingViolation::kDevicePermission);
      return {0, Error::kPermission};
    }
    const std::size_t offset = static_cast<std::size_t>(at - it->first);
    const std::size_t reach = live.device.size() - offset;
    const std::size_t part = n < reach ? n : reach;
    if (wanted == Permission::kRead && Changed(live, offset, part)) {
      Tell(counters_.stale_reads, CopyingViolation::kStaleRead);
    }
    move(std::size_t{0}, live.device.data() + offset, part);
    if (part == n) return {n, Ok()};
    // A hole follows every mapping.
    Tell(counters_.device_not_mapped, CopyingViolation::kDeviceNotMapped);
    return {part, Error::kNotMapped};
  }

  CopyingMapperOptions options_;
  std::mutex mutex_;
  std::function<void()> hook_;
  std::map<Iova, Live> live_;
  Iova next_;
  std::uint32_t tag_ = 0;
  CopyingMapperCounters counters_;
};
static_assert(Mapper<CopyingMapper>);
static_assert(DevicePort<CopyingMapper::Port>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_COPYING_MAPPER_H_
