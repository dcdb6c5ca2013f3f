// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_IOTLB_WORKLOADS_H_
#define DMAMAP_BENCHMARKS_PEERS_IOTLB_WORKLOADS_H_

// The IOTLB workloads by name, for any IotlbSubject. N mappings of 1 to 16
// pages lie in ascending order with gaps of 0 to 3 pages, and were added in
// random order. All figures are ns for one operation on each thread.
//
//   lookup_N      a random byte of a random mapping, one thread
//   lookup_2t_N   the same on two threads, with the shared calls
//   update_N      a random mapping removed and added again
//   mix95_2t_N    two threads, shared calls: 95 % lookups, 5 % updates, each
//                 thread of mappings of its own
//   walk_N        32 mappings in order, ns for each mapping
//   hint          65,536 mappings; 1024 bytes of one, then of another
//   scattered     a million single pages anywhere in 48 bits (scattered_N: N),
//                 lookups; and "bytes_per_mapping", by which the process grew
//                 as they were added: too low where memory was free already,
//                 so to be taken from a process that runs nothing else before
//
// Each session begins by checking a thousand translations.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "benchmarks/peers/iotlb_subject.h"
#include "benchmarks/peers/session.h"

namespace dmamap::peers {

inline std::vector<std::string> IotlbWorkloads() {
  std::vector<std::string> names;
  for (const char* kind :
       {"lookup_", "lookup_2t_", "update_", "mix95_2t_", "walk_"}) {
    // 2048 is what DPDK's list holds.
    for (const int n : {64, 1024, 2048, 65536, 262144, 1048576}) {
      names.push_back(absl::StrCat(kind, n));
    }
  }
  names.push_back("hint");
  names.push_back("scattered");
  return names;
}

struct WorkloadMapping {
  std::uint64_t first;  // bytes, both ends included
  std::uint64_t last;
  std::uint64_t address;

  std::uint64_t size() const { return last - first + 1; }
};

inline std::vector<WorkloadMapping> DenseMappings(std::uint64_t count) {
  std::vector<WorkloadMapping> mappings(count);
  Random random(3);
  std::uint64_t page = 0x1000;
  for (WorkloadMapping& m : mappings) {
    const std::uint64_t pages = 1 + random.Below(16);
    m = {page << 12, ((page + pages) << 12) - 1,
         0x7f00'0000'0000 + (page << 13)};
    page += pages + random.Below(4);
  }
  return mappings;
}

inline std::vector<WorkloadMapping> ScatteredMappings(std::uint64_t count) {
  std::vector<WorkloadMapping> mappings;
  mappings.reserve(count);
  absl::flat_hash_set<std::uint64_t> taken;
  Random random(48);
  while (mappings.size() < count) {
    const std::uint64_t page = 1 + (random() >> 28) % ((1ull << 36) - 1);
    if (!taken.insert(page).second) continue;
    mappings.push_back({page << 12, (page << 12) + 4095,
                        0x7f00'0000'0000 + (mappings.size() << 12)});
  }
  return mappings;
}

enum class IotlbKind {
  kLookup,
  kLookupShared,
  kUpdate,
  kMix,
  kWalk,
  kHint,
  kScattered,
};

template <IotlbSubject S>
class IotlbBody {
 public:
  IotlbBody(std::unique_ptr<S> subject, IotlbKind kind,
            std::vector<WorkloadMapping> mappings)
      : subject_(std::move(subject)),
        kind_(kind),
        mappings_(std::move(mappings)) {}

  unsigned threads() const {
    return kind_ == IotlbKind::kLookupShared || kind_ == IotlbKind::kMix ? 2
                                                                         : 1;
  }
  double operations_per_step() const {
    if (kind_ != IotlbKind::kWalk) return 1;
    return static_cast<double>(std::min(kWalked, mappings_.size()));
  }
  std::uint64_t max_steps() const { return 0; }
  std::uint64_t failures() const {
    return states_[0].failures + states_[1].failures;
  }

  // Thread 0 adds the mappings.
  absl::Status SetUp(unsigned tid) {
    if (tid == 0) {
      if (absl::Status s = AddAll(); !s.ok()) return s;
    }
    State& state = states_[tid];
    state.random = Random(100 + tid);
    state.reader.emplace(subject_->NewReader());
    if (kind_ != IotlbKind::kHint) {
      state.queries.resize(kQueries);
      for (std::uint64_t& q : state.queries) q = RandomByte(state.random);
    }
    return Check(state);
  }

  void Run(unsigned tid, std::uint64_t n) {
    State& state = states_[tid];
    switch (kind_) {
      case IotlbKind::kLookup:
      case IotlbKind::kScattered:
        return RunLookups<false>(state, n);
      case IotlbKind::kLookupShared:
        return RunLookups<true>(state, n);
      case IotlbKind::kUpdate:
        return RunUpdates(state, n);
      case IotlbKind::kMix:
        return RunMix(tid, state, n);
      case IotlbKind::kWalk:
        return RunWalks(state, n);
      case IotlbKind::kHint:
        return RunHint(state, n);
    }
  }

  void TearDown(unsigned tid) { states_[tid].reader.reset(); }

  void AddMetrics(std::vector<Metric>& metrics) const {
    if (kind_ != IotlbKind::kScattered) return;
    metrics.push_back(
        {"bytes_per_mapping", "bytes",
         static_cast<double>(grown_) / static_cast<double>(mappings_.size())});
  }

 private:
  static constexpr std::uint64_t kQueries = 1 << 20;
  static constexpr std::size_t kWalked = 32;
  static constexpr std::uint64_t kOfOne = 1024;  // lookups of one mapping
  static constexpr unsigned kReadWrite = 3;
  using Reader = decltype(std::declval<S&>().NewReader());

  struct alignas(128) State {
    std::vector<std::uint64_t> queries;
    std::size_t next = 0;
    std::uint64_t failures = 0;
    Random random{0};
    std::optional<Reader> reader;
  };

  absl::Status AddAll() {
    std::vector<std::size_t> order(mappings_.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    Random(17).Shuffle(order);
    const std::uint64_t before = ResidentBytes();
    for (const std::size_t i : order) {
      const WorkloadMapping& m = mappings_[i];
      if (!subject_->Add(m.first, m.last, m.address, kReadWrite)) {
        return absl::InternalError("a mapping was refused");
      }
    }
    grown_ = std::max(ResidentBytes(), before) - before;
    return absl::OkStatus();
  }

  std::uint64_t RandomByte(Random& random) const {
    const WorkloadMapping& m = mappings_[random.Below(mappings_.size())];
    return m.first + random.Below(m.size());
  }

  absl::Status Check(State& state) {
    Random random(5);
    for (int i = 0; i < 1000; ++i) {
      const WorkloadMapping& m = mappings_[random.Below(mappings_.size())];
      const std::uint64_t offset = random.Below(m.size());
      const std::uint64_t iova = m.first + offset;
      if (state.reader->Lookup(iova) != m.address + offset ||
          state.reader->LookupShared(iova) != m.address + offset) {
        return absl::InternalError(absl::StrCat("wrong translation of ", iova));
      }
    }
    if (state.reader->Lookup(0x800) != 0 ||
        state.reader->LookupShared(mappings_.back().last + 0x1000'0000) != 0) {
      // Scattered mappings may lie there, but the chance is 1 in 2^16.
      return absl::InternalError("a miss was translated");
    }
    return absl::OkStatus();
  }

  // The reader is a local variable of each loop, and moved back behind it: what
  // it points to stays in a register, for all implementations alike.
  template <bool kShared>
  [[gnu::noinline]] void RunLookups(State& state, std::uint64_t n) {
    Reader reader = *std::move(state.reader);
    std::size_t next = state.next;
    std::uint64_t misses = 0;
    for (std::uint64_t i = 0; i < n; ++i) {
      const std::uint64_t iova = state.queries[next];
      next = (next + 1) % kQueries;
      const std::uint64_t address =
          kShared ? reader.LookupShared(iova) : reader.Lookup(iova);
      Keep(address);
      misses += address == 0;
    }
    state.reader = std::move(reader);
    state.next = next;
    state.failures += misses;
  }

  [[gnu::noinline]] void RunUpdates(State& state, std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i) {
      const WorkloadMapping& m =
          mappings_[state.random.Below(mappings_.size())];
      subject_->Remove(m.first, m.last);
      if (!subject_->Add(m.first, m.last, m.address, kReadWrite)) {
        ++state.failures;
      }
    }
  }

  // Thread t updates the mappings with numbers 2 i + t. A lookup of one that
  // the other thread is just replacing misses, and that is no failure.
  [[gnu::noinline]] void RunMix(unsigned tid, State& state, std::uint64_t n) {
    Reader reader = *std::move(state.reader);
    for (std::uint64_t i = 0; i < n; ++i) {
      const std::uint64_t r = state.random();
      if ((r & 0xffff) < 0xffff / 20) {
        const std::size_t half = ((r >> 32) * (mappings_.size() / 2)) >> 32;
        const WorkloadMapping& m = mappings_[2 * half + tid];
        subject_->RemoveShared(m.first, m.last);
        if (!subject_->AddShared(m.first, m.last, m.address, kReadWrite)) {
          ++state.failures;
        }
      } else {
        const std::uint64_t address =
            reader.LookupShared(state.queries[state.next]);
        Keep(address);
        state.next = (state.next + 1) % kQueries;
      }
    }
    state.reader = std::move(reader);
  }

  [[gnu::noinline]] void RunWalks(State& state, std::uint64_t n) {
    if constexpr (WalkableIotlb<S>) {
      const std::size_t walked = std::min(kWalked, mappings_.size());
      const std::size_t starts = mappings_.size() - walked + 1;
      for (std::uint64_t i = 0; i < n; ++i) {
        const std::size_t start = state.random.Below(starts);
        const WalkResult result = subject_->Walk(
            mappings_[start].first, mappings_[start + walked - 1].last);
        Keep(result.sum);
        if (result.count != walked) [[unlikely]]
          ++state.failures;
      }
    }
  }

  [[gnu::noinline]] void RunHint(State& state, std::uint64_t n) {
    Reader reader = *std::move(state.reader);
    std::uint64_t failures = 0;
    while (n != 0) {
      const WorkloadMapping m = mappings_[state.random.Below(mappings_.size())];
      const std::uint64_t turn = std::min(n, kOfOne);
      for (std::uint64_t i = 0; i < turn; ++i) {
        const std::uint64_t offset = i * 64 % 4096;
        const std::uint64_t address = reader.Lookup(m.first + offset);
        Keep(address);
        if (address != m.address + offset) [[unlikely]]
          ++failures;
      }
      n -= turn;
    }
    state.reader = std::move(reader);
    state.failures += failures;
  }

  const std::unique_ptr<S> subject_;
  const IotlbKind kind_;
  const std::vector<WorkloadMapping> mappings_;
  std::uint64_t grown_ = 0;  // bytes
  std::array<State, 2> states_;
};

namespace internal {

struct IotlbWorkload {
  IotlbKind kind;
  std::uint64_t mappings;

  bool sparse() const { return kind == IotlbKind::kScattered; }
};

inline std::optional<IotlbWorkload> ParseIotlbWorkload(absl::string_view name) {
  if (name == "hint") return IotlbWorkload{IotlbKind::kHint, 65536};
  if (name == "scattered") {
    return IotlbWorkload{IotlbKind::kScattered, 1'000'000};
  }
  const std::pair<absl::string_view, IotlbKind> prefixes[] = {
      {"lookup_2t_", IotlbKind::kLookupShared},
      {"lookup_", IotlbKind::kLookup},
      {"update_", IotlbKind::kUpdate},
      {"mix95_2t_", IotlbKind::kMix},
      {"walk_", IotlbKind::kWalk},
      {"scattered_", IotlbKind::kScattered},
  };
  for (const auto& [prefix, kind] : prefixes) {
    absl::string_view rest = name;
    std::uint64_t n = 0;
    if (absl::ConsumePrefix(&rest, prefix) && absl::SimpleAtoi(rest, &n) &&
        n >= 2) {
      return IotlbWorkload{kind, n};
    }
  }
  return std::nullopt;
}

}  // namespace internal

// kUnimplemented for what the implementation cannot run, kNotFound for a name
// that is none.
template <IotlbSubject S>
absl::StatusOr<std::unique_ptr<Session>> MakeIotlbSession(
    absl::string_view workload, const SessionOptions& options) {
  const auto parsed = internal::ParseIotlbWorkload(workload);
  if (!parsed.has_value()) {
    return absl::NotFoundError(absl::StrCat("no IOTLB workload ", workload));
  }
  if (S::kMaxMappings != 0 && parsed->mappings > S::kMaxMappings) {
    return absl::UnimplementedError("holds fewer mappings");
  }
  if (parsed->sparse() && !S::kSparse) {
    return absl::UnimplementedError("scattered pages exhaust its memory");
  }
  if (parsed->kind == IotlbKind::kWalk && !WalkableIotlb<S>) {
    return absl::UnimplementedError("has no order");
  }
  absl::StatusOr<std::unique_ptr<S>> subject = S::Create(parsed->mappings);
  if (!subject.ok()) return subject.status();
  auto body = std::make_unique<IotlbBody<S>>(
      std::move(*subject), parsed->kind,
      parsed->sparse() ? ScatteredMappings(parsed->mappings)
                       : DenseMappings(parsed->mappings));
  SessionOptions longer = options;
  // Random look-ups meet most mappings of so many once in 20 ms: a shorter
  // repetition would time how the caches fill behind the other sessions.
  if (parsed->mappings >= 65536) longer.repetition_ns *= 6;
  return BatchSession<IotlbBody<S>>::Create(std::move(body), longer);
}

}  // namespace dmamap::peers

#endif  // DMAMAP_BENCHMARKS_PEERS_IOTLB_WORKLOADS_H_
