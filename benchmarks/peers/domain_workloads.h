// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_DOMAIN_WORKLOADS_H_
#define DMAMAP_BENCHMARKS_PEERS_DOMAIN_WORKLOADS_H_

// The DMA workloads by name, for any DomainSubject. One operation maps a buffer
// and unmaps it; buffers are taken in turn from 128 for each thread, each at
// the start of a page. Figures are ns for one operation on each thread.
//
//   map_unmap_SIZE            nothing is copied
//   map_unmap_SIZE_liveN      N other mappings of that size are live
//   map_unmap_SIZE_2t         two threads on one domain
//   map_unmap_SIZE_liveN_2t   both
//   map_unmap_SIZE_touched    a device has touched the bounce pages before
//   copy_to_SIZE              to the device, copied
//   copy_from_SIZE            from the device, copied
//   pooled_SIZE               to the device, in whatever mode the subject is in
//   copy_or_map_SIZE          the same
//
// SIZE is 64B, 1500B, 4096B ... in bytes.
//
// map_unmap_ measures the bookkeeping: no byte of a buffer moves, and no device
// has touched a page, so that a domain whose pages come at the first touch has
// none to clear. _touched is with such pages: what the device could see of
// former owners must go. (Linux's VDUSE makes its pages in Map, and lets what
// they hold stand: both are one to it.) copy_ has all pages in place, and
// before it begins both sides compare what arrives; a domain that counts its
// copies must have copied each byte as often as the guarantees demand: once to
// the device; in and out from the device, so that a short write leaves the rest
// of the original alone.

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "benchmarks/peers/domain_subject.h"
#include "benchmarks/peers/session.h"
#include "dma/direction.h"
#include "dma/mapper.h"

namespace dmamap::peers {

inline std::vector<std::string> DomainWorkloads() {
  std::vector<std::string> names;
  for (const int size : {64, 1500, 4096}) {
    for (const char* suffix :
         {"", "_live1024", "_live65536", "_2t", "_touched"}) {
      names.push_back(absl::StrCat("map_unmap_", size, "B", suffix));
    }
  }
  for (const char* kind : {"copy_to_", "copy_from_"}) {
    for (const int size : {64, 1500, 4096, 16384, 65536, 262144}) {
      names.push_back(absl::StrCat(kind, size, "B"));
    }
  }
  return names;
}

struct DomainWorkload {
  std::size_t bytes = 0;
  std::size_t live = 0;
  unsigned threads = 1;
  Direction direction = Direction::kToDevice;
  MapAttributes attributes = MapAttributes::kNone;
  bool touched = false;  // the pages are there before the measurement

  bool copies() const { return !Has(attributes, MapAttributes::kSkipSync); }
  std::size_t pages() const { return (bytes + 4095) / 4096; }
};

// Memory that is there when it is touched: what is only mapped costs nothing.
class LazyBuffer {
 public:
  explicit LazyBuffer(std::size_t bytes) : bytes_(bytes) {
    void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data != MAP_FAILED) data_ = static_cast<std::byte*>(data);
  }
  ~LazyBuffer() {
    if (data_ != nullptr) munmap(data_, bytes_);
  }
  LazyBuffer(const LazyBuffer&) = delete;
  LazyBuffer& operator=(const LazyBuffer&) = delete;

  std::byte* data() const { return data_; }  // null when there was none

 private:
  const std::size_t bytes_;
  std::byte* data_ = nullptr;
};

template <DomainSubject S>
class DomainBody {
 public:
  DomainBody(std::unique_ptr<S> subject, const DomainWorkload& workload)
      : subject_(std::move(subject)),
        workload_(workload),
        stride_(workload.pages() * 4096),
        buffers_((kBuffers * workload.threads + workload.live) * stride_),
        live_(workload.live) {}

  unsigned threads() const { return workload_.threads; }
  double operations_per_step() const { return 1; }
  std::uint64_t max_steps() const { return 0; }
  // Also bytes that were not copied, or copied too often: in buffers.
  std::uint64_t failures() const {
    std::uint64_t sum = 0;
    for (const State& state : states_) sum += state.failures;
    if constexpr (CopyCountingSubject<S>) {
      const std::uint64_t want = BytesDue();
      const std::uint64_t have = subject_->bytes_copied() - copied_before_;
      const std::uint64_t off = want > have ? want - have : have - want;
      sum += (off + workload_.bytes - 1) / workload_.bytes;
    }
    return sum;
  }

  // Thread 0 makes the live mappings. The last one says when counting begins.
  absl::Status SetUp(unsigned tid) {
    if (buffers_.data() == nullptr) return absl::ResourceExhaustedError("mmap");
    if (absl::Status s = subject_->EnterThread(tid); !s.ok()) return s;
    for (std::size_t i = 0; i < kBuffers; ++i) {
      // Touched, so that no page fault falls into the measurement.
      std::fill_n(Buffer(tid, i), workload_.bytes, Pattern(i));
    }
    if (tid == 0) {
      if (absl::Status s = MapLive(); !s.ok()) return s;
    }
    if (workload_.touched) {
      if (absl::Status s = TouchPages(tid); !s.ok()) return s;
    }
    if (workload_.copies()) {
      if (absl::Status s = CompareBothSides(tid); !s.ok()) return s;
    }
    if constexpr (CopyCountingSubject<S>) {
      copied_before_ = subject_->bytes_copied();
    }
    return absl::OkStatus();
  }

  // All that the loop needs is a local variable: the subject's address, what it
  // is asked for and the counts stay in registers, whoever the subject is.
  void Run(unsigned tid, std::uint64_t n) {
    S& subject = *subject_;
    const DomainWorkload workload = workload_;
    const std::size_t stride = stride_;
    std::byte* const begin = Buffer(tid, 0);
    std::byte* const end = Buffer(tid, kBuffers);
    std::byte* buffer = begin;
    std::uint64_t failed = 0;
    for (std::uint64_t i = 0; i < n; ++i) {
      Handle handle{};
      if (subject.Map(buffer, workload.bytes, workload.direction,
                      workload.attributes, handle)) [[likely]] {
        Keep(handle);
        if (!subject.Unmap(handle, workload.bytes, workload.direction,
                           workload.attributes)) [[unlikely]] {
          ++failed;
        }
      } else {
        ++failed;
      }
      buffer += stride;
      if (buffer == end) buffer = begin;
    }
    states_[tid].failures += failed;
    states_[tid].done += n - failed;
  }

  void TearDown(unsigned tid) {
    if (tid == 0) {
      for (std::size_t i = 0; i < mapped_; ++i) Unmap(live_[i]);
      mapped_ = 0;
    }
    subject_->LeaveThread(tid);
  }

 private:
  static constexpr std::size_t kBuffers = 128;
  using Handle = typename S::Handle;

  struct alignas(128) State {
    std::uint64_t done = 0;
    std::uint64_t failures = 0;
  };

  std::byte* Buffer(unsigned tid, std::size_t i) const {
    return buffers_.data() + (tid * kBuffers + i) * stride_;
  }
  static std::byte Pattern(std::size_t i) {
    return static_cast<std::byte>(i + 1);
  }
  bool Map(std::byte* buffer, Handle& handle) {
    return subject_->Map(buffer, workload_.bytes, workload_.direction,
                         workload_.attributes, handle);
  }
  bool Unmap(Handle& handle) {
    return subject_->Unmap(handle, workload_.bytes, workload_.direction,
                           workload_.attributes);
  }
  // What all operations since SetUp must have copied.
  std::uint64_t BytesDue() const {
    if (!workload_.copies()) return 0;
    const std::uint64_t each =
        workload_.bytes * (DeviceWrites(workload_.direction) ? 2 : 1);
    return (states_[0].done + states_[1].done) * each;
  }

  absl::Status MapLive() {
    std::byte* buffer = buffers_.data() + kBuffers * threads() * stride_;
    for (Handle& handle : live_) {
      if (!Map(buffer, handle)) {
        return absl::InternalError("a live mapping failed");
      }
      ++mapped_;
      buffer += stride_;
    }
    return absl::OkStatus();
  }

  // f(bytes on the device's side, their offset) for all of a mapping.
  template <class F>
  absl::Status ForDeviceBytes(Handle& handle, F&& f) {
    for (std::size_t at = 0; at < workload_.bytes;) {
      std::span<std::byte> part =
          subject_->DeviceBytes(handle, at, workload_.direction);
      if (part.empty())
        return absl::InternalError("the device reaches nothing");
      part = part.first(std::min(part.size(), workload_.bytes - at));
      f(part, at);
      at += part.size();
    }
    return absl::OkStatus();
  }

  // As many mappings at a time as an allocator may take turns with.
  absl::Status TouchPages(unsigned tid) {
    std::vector<Handle> handles(S::kMaps ? kBuffers : 1);
    absl::Status status;
    for (std::size_t i = 0; i < handles.size(); ++i) {
      if (!Map(Buffer(tid, i), handles[i])) {
        return absl::InternalError("a mapping to be touched failed");
      }
      status.Update(ForDeviceBytes(handles[i],
                                   [](std::span<std::byte> part, std::size_t) {
                                     part[0] = std::byte{0};
                                   }));
    }
    for (Handle& handle : handles) {
      if (!Unmap(handle)) status = absl::InternalError("an unmap failed");
    }
    return status;
  }

  // Each buffer once, compared byte by byte.
  absl::Status CompareBothSides(unsigned tid) {
    for (std::size_t i = 0; i < kBuffers; ++i) {
      std::byte* const buffer = Buffer(tid, i);
      const bool back = DeviceWrites(workload_.direction);
      const std::byte want = back ? ~Pattern(i) : Pattern(i);
      bool good = true;
      Handle handle{};
      std::fill_n(buffer, workload_.bytes, Pattern(i));
      if (!Map(buffer, handle)) return absl::InternalError("a mapping failed");
      const absl::Status status =
          ForDeviceBytes(handle, [&](std::span<std::byte> part, std::size_t) {
            if (back) std::fill(part.begin(), part.end(), want);
            good = good && AllAre(part, want);
          });
      if (!status.ok()) return status;
      if (!Unmap(handle)) return absl::InternalError("an unmap failed");
      good = good && AllAre({buffer, workload_.bytes}, want);
      if (!good) return absl::InternalError("other bytes arrived");
    }
    return absl::OkStatus();
  }
  static bool AllAre(std::span<const std::byte> bytes, std::byte want) {
    return std::all_of(bytes.begin(), bytes.end(),
                       [&](std::byte b) { return b == want; });
  }

  const std::unique_ptr<S> subject_;
  const DomainWorkload workload_;
  const std::size_t stride_;  // bytes from one buffer to the next
  const LazyBuffer buffers_;
  std::vector<Handle> live_;
  std::size_t mapped_ = 0;           // of live_
  std::uint64_t copied_before_ = 0;  // by SetUp
  std::array<State, 2> states_;
};

// Nothing for a name that is none.
inline std::optional<DomainWorkload> ParseDomainWorkload(
    absl::string_view name) {
  DomainWorkload workload;
  bool copies = true;
  if (absl::ConsumePrefix(&name, "map_unmap_")) {
    copies = false;
    workload.attributes = MapAttributes::kSkipSync;
  } else if (absl::ConsumePrefix(&name, "copy_from_")) {
    workload.direction = Direction::kFromDevice;
  } else if (!absl::ConsumePrefix(&name, "copy_to_") &&
             !absl::ConsumePrefix(&name, "pooled_") &&
             !absl::ConsumePrefix(&name, "copy_or_map_")) {
    return std::nullopt;
  }
  workload.touched = copies || absl::ConsumeSuffix(&name, "_touched");
  if (!copies && absl::ConsumeSuffix(&name, "_2t")) workload.threads = 2;
  const std::size_t live = name.find("_live");
  if (!copies && live != name.npos) {
    if (!absl::SimpleAtoi(name.substr(live + 5), &workload.live)) {
      return std::nullopt;
    }
    name.remove_suffix(name.size() - live);
  }
  if (!absl::ConsumeSuffix(&name, "B") ||
      !absl::SimpleAtoi(name, &workload.bytes) || workload.bytes == 0) {
    return std::nullopt;
  }
  return workload;
}

// kUnimplemented for what the implementation cannot run, kNotFound for a name
// that is none.
template <DomainSubject S>
absl::StatusOr<std::unique_ptr<Session>> MakeDomainSession(
    absl::string_view workload, const SessionOptions& options) {
  const std::optional<DomainWorkload> parsed = ParseDomainWorkload(workload);
  if (!parsed.has_value()) {
    return absl::NotFoundError(absl::StrCat("no DMA workload ", workload));
  }
  if (!S::kMaps && Has(parsed->attributes, MapAttributes::kSkipSync)) {
    return absl::UnimplementedError("only copies");
  }
  // Room for all that is live, twice: sizes are rounded up, caches hold some.
  const DomainSpace space{
      .bounce_bytes =
          (std::uint64_t{64} << 20) + 2 * parsed->live * parsed->pages() * 4096,
      .threads = parsed->threads};
  absl::StatusOr<std::unique_ptr<S>> subject = S::Create(space);
  if (!subject.ok()) return subject.status();
  return BatchSession<DomainBody<S>>::Create(
      std::make_unique<DomainBody<S>>(std::move(*subject), *parsed), options);
}

}  // namespace dmamap::peers

#endif  // DMAMAP_BENCHMARKS_PEERS_DOMAIN_WORKLOADS_H_
