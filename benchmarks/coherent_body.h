// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_COHERENT_BODY_H_
#define DMAMAP_BENCHMARKS_COHERENT_BODY_H_

// Small blocks of coherent memory, taken and given back, 32 out at a time: from
// a CoherentPool, as coherent blocks of their own, and from the heap, which
// knows no device.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "benchmarks/dmamap_domain_subject.h"
#include "benchmarks/peers/measure.h"
#include "benchmarks/peers/session.h"
#include "dma/mapper.h"
#include "domain/coherent_pool.h"
#include "domain/domain.h"

namespace dmamap::bench {

inline constexpr std::size_t kSmallBlock = 64;  // bytes

// Blocks from a pool over a domain.
class PooledBlocks {
 public:
  absl::Status Init() {
    const bool made = domain_.pages().Init({}).ok() && domain_.Init({}).ok() &&
                      pool_.Init({.size = kSmallBlock, .alignment = 64}).ok();
    return made ? absl::OkStatus() : absl::InternalError("no pool");
  }
  CoherentBlock Take() {
    const Result<CoherentBlock> block = pool_.Allocate();
    return block.ok() ? *block : CoherentBlock{};
  }
  bool Give(const CoherentBlock& block) { return pool_.Free(block).ok(); }

 private:
  Domain<MeasuredPolicies> domain_;
  CoherentPool<Domain<MeasuredPolicies>> pool_{domain_};
};

// A page each.
class WholeBlocks {
 public:
  absl::Status Init() {
    const bool made = domain_.pages().Init({}).ok() && domain_.Init({}).ok();
    return made ? absl::OkStatus() : absl::InternalError("no domain");
  }
  CoherentBlock Take() {
    const Result<CoherentBlock> block = domain_.AllocateCoherent(kSmallBlock);
    return block.ok() ? *block : CoherentBlock{};
  }
  bool Give(const CoherentBlock& block) {
    return domain_.FreeCoherent(block).ok();
  }

 private:
  Domain<MeasuredPolicies> domain_;
};

// Zeroed memory, and nothing else.
class HeapBlocks {
 public:
  absl::Status Init() { return absl::OkStatus(); }
  CoherentBlock Take() {
    return {.iova = {},
            .cpu = static_cast<std::byte*>(std::calloc(1, kSmallBlock)),
            .size = kSmallBlock};
  }
  bool Give(const CoherentBlock& block) {
    std::free(block.cpu);
    return true;
  }
};

// A BatchBody: one operation takes a block and gives back the oldest.
template <class Blocks>
class CoherentBody {
 public:
  unsigned threads() const { return 1; }
  double operations_per_step() const { return 1; }
  std::uint64_t max_steps() const { return 0; }
  std::uint64_t failures() const { return failures_; }

  absl::Status SetUp(unsigned) {
    if (absl::Status s = blocks_.Init(); !s.ok()) return s;
    for (CoherentBlock& block : out_) {
      block = blocks_.Take();
      if (block.cpu == nullptr) return absl::ResourceExhaustedError("blocks");
    }
    return absl::OkStatus();
  }
  void Run(unsigned, std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i) {
      CoherentBlock& oldest = out_[i % out_.size()];
      failures_ += blocks_.Give(oldest) ? 0 : 1;
      oldest = blocks_.Take();
      peers::Keep(oldest);
      // As zero as it must be, and used.
      failures_ += oldest.cpu == nullptr || *oldest.cpu != std::byte{} ? 1 : 0;
      if (oldest.cpu != nullptr) *oldest.cpu = std::byte{1};
    }
  }
  void TearDown(unsigned) {
    for (const CoherentBlock& block : out_) {
      if (block.cpu != nullptr) (void)blocks_.Give(block);
    }
  }

 private:
  Blocks blocks_;
  std::array<CoherentBlock, 32> out_ = {};
  std::uint64_t failures_ = 0;
};

template <class Blocks>
absl::StatusOr<std::unique_ptr<peers::Session>> MakeCoherentSession(
    absl::string_view, const peers::SessionOptions& options) {
  using Body = CoherentBody<Blocks>;
  return peers::BatchSession<Body>::Create(std::make_unique<Body>(), options);
}

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_COHERENT_BODY_H_
