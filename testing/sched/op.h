// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SCHED_OP_H_
#define DMAMAP_TESTING_SCHED_OP_H_

// One atomic access, as a thread announces it before the scheduler lets it go.

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "dma/version.h"
#include "testing/sched/memory_model.h"
#include "testing/sched/site.h"
#include "testing/sched/view.h"

namespace dmamap::inline v0 {
namespace sched {

// The part of an Atomic that does not depend on its type. It becomes a location
// of the memory model when a thread first accesses it: an array of thousands
// costs only what is used.
struct Cell {
  static constexpr LocationId kNone = ~LocationId{0};
  static constexpr LocationId kEnded = kNone - 1;  // its destructor has run

  Value value = {};             // the newest store
  std::uint32_t execution = 0;  // in which the rest is valid
  LocationId location = kNone;
  Epoch created;
  const char* label = nullptr;
};

enum class OpKind : std::uint8_t {
  kLoad,
  kStore,
  kUpdate,  // exchange and fetch_...
  kCompareWeak,
  kCompareStrong,
  kFence,
  kRelax,  // AtomRelax: a turn of a waiting loop
};

struct Op {
  OpKind kind = OpKind::kLoad;
  std::memory_order order = std::memory_order_seq_cst;
  std::memory_order failure = std::memory_order_seq_cst;  // of a compare
  Cell* cell = nullptr;
  const char* name = "";
  Site site = {};
  Value operand = {};
  Value expected = {};  // of a compare
  // The new value of an update, from the old one and the operand.
  Value (*apply)(const Value& old, const Value& operand) = nullptr;
};

struct OpResult {
  Value old = {};
  bool done = true;  // false: a compare failed
};

inline bool IsCompare(const Op& op) {
  return op.kind == OpKind::kCompareWeak || op.kind == OpKind::kCompareStrong;
}

// The value that the access leaves where it finds `old`.
inline Value ValueAfter(const Op& op, const Value& old) {
  switch (op.kind) {
    case OpKind::kStore:
      return op.operand;
    case OpKind::kUpdate:
      return op.apply(old, op.operand);
    case OpKind::kCompareWeak:
    case OpKind::kCompareStrong:
      return old == op.expected ? op.operand : old;
    default:
      return old;
  }
}

// The access of one who has no rival.
inline OpResult Bare(const Op& op) {
  if (op.cell == nullptr) return {};
  const Value old = op.cell->value;
  op.cell->value = ValueAfter(op, old);
  return {old, !IsCompare(op) || old == op.expected};
}

// Whether two accesses of different threads have the same effect in either
// order. A compare counts as a write.
inline bool Independent(const Op& a, const Op& b) {
  const auto is_fence = [](const Op& op) { return op.kind == OpKind::kFence; };
  const auto seq_cst = [](const Op& op) {
    return IsSeqCst(op.order) || (IsCompare(op) && IsSeqCst(op.failure));
  };
  if (a.kind == OpKind::kRelax || b.kind == OpKind::kRelax) return false;
  if (is_fence(a) || is_fence(b)) return !(seq_cst(a) && seq_cst(b));
  if (a.cell != b.cell) return true;
  return a.kind == OpKind::kLoad && b.kind == OpKind::kLoad &&
         !(seq_cst(a) && seq_cst(b));
}

// Adds `op` to `sites` unless the same access at the same place is there.
inline void NoteSite(std::vector<Op>& sites, const Op& op) {
  if (op.site.line == 0) return;
  for (const Op& known : sites) {
    if (known.site.line == op.site.line && known.order == op.order &&
        known.failure == op.failure &&
        std::string_view(known.site.file) == op.site.file &&
        std::string_view(known.name) == op.name) {
      return;
    }
  }
  sites.push_back(op);
}

inline const char* OrderName(std::memory_order order) {
  switch (order) {
    case std::memory_order_relaxed:
      return "relaxed";
    case std::memory_order_consume:
      return "consume";
    case std::memory_order_acquire:
      return "acquire";
    case std::memory_order_release:
      return "release";
    case std::memory_order_acq_rel:
      return "acq_rel";
    default:
      return "seq_cst";
  }
}

inline std::string ValueText(const Value& value) {
  char text[48];
  if (value.high != 0) {
    std::snprintf(text, sizeof text, "0x%llx:%016llx",
                  static_cast<unsigned long long>(value.high),
                  static_cast<unsigned long long>(value.low));
  } else if (value.low < 1024) {
    std::snprintf(text, sizeof text, "%llu",
                  static_cast<unsigned long long>(value.low));
  } else {
    std::snprintf(text, sizeof text, "0x%llx",
                  static_cast<unsigned long long>(value.low));
  }
  return text;
}

// "T1", or "main" for the caller of RunThreads.
inline std::string ThreadText(ThreadId thread) {
  return thread == kMain ? "main" : "T" + std::to_string(thread);
}

// Its label, or "a" and its number.
inline std::string LocationText(const char* label, LocationId number,
                                const char* prefix) {
  return label != nullptr ? label : prefix + std::to_string(number);
}

}  // namespace sched
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SCHED_OP_H_
