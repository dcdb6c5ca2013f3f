// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SCHED_VIEW_H_
#define DMAMAP_TESTING_SCHED_VIEW_H_

// What a thread knows of the others: the vocabulary of the memory model.
//
//   Value      the bytes of an atomic's value, at most 16.
//   Epoch      one moment of one thread.
//   Clock      for each thread, the last moment that happens before now.
//   Timestamp  the place of a store in the modification order of its location.
//   View       a Clock, and for each location the newest store known of. A load
//              may return that store or a later one: this is coherence.
//
// Two parts, because they spread differently: a release store that an acquire
// load reads hands over both, but two seq_cst fences hand over only the stores
// seen. Such fences order atomic accesses and do not order plain ones.

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "dma/version.h"

namespace dmamap::inline v0 {
namespace sched {

// Threads that one Run may start.
inline constexpr std::size_t kMaxThreads = 4;

// 0 is the caller of RunThreads, 1 .. kMaxThreads are the threads that it
// starts.
using ThreadId = std::uint32_t;
inline constexpr ThreadId kMain = 0;

using LocationId = std::uint32_t;
using Timestamp = std::uint64_t;

struct Value {
  std::uint64_t low;
  std::uint64_t high;
  friend bool operator==(const Value&, const Value&) = default;
};

template <class T>
Value ToValue(const T& t) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(Value));
  Value value = {};
  std::memcpy(&value, &t, sizeof(T));
  return value;
}

template <class T>
T FromValue(const Value& value) {
  std::array<std::byte, sizeof(T)> bytes;
  std::memcpy(bytes.data(), &value, sizeof(T));
  return std::bit_cast<T>(bytes);  // T need not be default-constructible
}

struct Epoch {
  ThreadId thread = kMain;
  std::uint32_t time = 0;
};

struct Clock {
  std::array<std::uint32_t, kMaxThreads + 1> at = {};

  bool Covers(Epoch e) const { return e.time <= at[e.thread]; }
  void Join(const Clock& other) {
    for (std::size_t i = 0; i < at.size(); ++i) {
      at[i] = std::max(at[i], other.at[i]);
    }
  }
};

class View {
 public:
  Clock clock;

  Timestamp seen(LocationId l) const { return l < seen_.size() ? seen_[l] : 0; }
  void See(LocationId l, Timestamp t) {
    if (l >= seen_.size()) seen_.resize(l + 1, 0);
    seen_[l] = std::max(seen_[l], t);
  }
  void JoinSeen(const View& other) {
    if (other.seen_.size() > seen_.size()) seen_.resize(other.seen_.size(), 0);
    for (std::size_t i = 0; i < other.seen_.size(); ++i) {
      seen_[i] = std::max(seen_[i], other.seen_[i]);
    }
  }
  void Join(const View& other) {
    clock.Join(other.clock);
    JoinSeen(other);
  }
  void Clear() {  // keeps its memory for the next execution
    clock = Clock{};
    seen_.clear();
  }

 private:
  std::vector<Timestamp> seen_;
};

}  // namespace sched
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SCHED_VIEW_H_
