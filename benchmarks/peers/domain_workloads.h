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
//   copy_to_SIZE              to the device, copied
//   copy_from_SIZE            from the device, copied
//
// SIZE is 64B, 1500B, 4096B ... in bytes.

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
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
    for (const char* suffix : {"", "_live1024", "_live65536", "_2t"}) {
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
  std::uint64_t failures() const {
    return states_[0].failures + states_[1].failures;
  }

  // Thread 0 makes the live mappings.
  absl::Status SetUp(unsigned tid) {
    if (buffers_.data() == nullptr) return absl::ResourceExhaustedError("mmap");
    if (absl::Status s = subject_->EnterThread(tid); !s.ok()) return s;
    for (std::size_t i = 0; i < kBuffers; ++i) {
      // Touched, so that no page fault falls into the measurement.
      std::fill_n(Buffer(tid, i), workload_.bytes, std::byte{1});
    }
    if (tid != 0) return absl::OkStatus();
    std::byte* buffer = buffers_.data() + kBuffers * threads() * stride_;
    for (Handle& handle : live_) {
      if (!subject_->Map(buffer, workload_.bytes, workload_.direction,
                         workload_.attributes, handle)) {
        return absl::InternalError("a live mapping failed");
      }
      ++mapped_;
      buffer += stride_;
    }
    return absl::OkStatus();
  }

  void Run(unsigned tid, std::uint64_t n) {
    State& state = states_[tid];
    for (std::uint64_t i = 0; i < n; ++i) {
      std::byte* buffer = Buffer(tid, state.next++ % kBuffers);
      Handle handle{};
      if (!subject_->Map(buffer, workload_.bytes, workload_.direction,
                         workload_.attributes, handle)) [[unlikely]] {
        ++state.failures;
        continue;
      }
      Keep(handle);
      if (!subject_->Unmap(handle, workload_.bytes, workload_.direction,
                           workload_.attributes)) [[unlikely]] {
        ++state.failures;
      }
    }
  }

  void TearDown(unsigned tid) {
    if (tid == 0) {
      for (std::size_t i = 0; i < mapped_; ++i) {
        subject_->Unmap(live_[i], workload_.bytes, workload_.direction,
                        workload_.attributes);
      }
      mapped_ = 0;
    }
    subject_->LeaveThread(tid);
  }

 private:
  static constexpr std::size_t kBuffers = 128;
  using Handle = typename S::Handle;

  struct alignas(128) State {
    std::size_t next = 0;
    std::uint64_t failures = 0;
  };

  std::byte* Buffer(unsigned tid, std::size_t i) const {
    return buffers_.data() + (tid * kBuffers + i) * stride_;
  }

  const std::unique_ptr<S> subject_;
  const DomainWorkload workload_;
  const std::size_t stride_;  // bytes from one buffer to the next
  const LazyBuffer buffers_;
  std::vector<Handle> live_;
  std::size_t mapped_ = 0;  // of live_
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
  } else if (!absl::ConsumePrefix(&name, "copy_to_")) {
    return std::nullopt;
  }
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
