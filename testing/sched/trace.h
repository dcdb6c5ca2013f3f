// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SCHED_TRACE_H_
#define DMAMAP_TESTING_SCHED_TRACE_H_

// Trace: an execution for a human, one line for each step.
//
//    3 T2   mailbox.h:40   load(acquire)      full = 1
//    4 T2   mailbox.h:41   load(relaxed)      data = 0   (1 newer store)
//    5 T1   depot.h:90     fetch_add(relaxed) a3 1 -> 2

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>

#include "dma/version.h"
#include "testing/sched/access.h"
#include "testing/sched/op.h"
#include "testing/sched/view.h"

namespace dmamap::inline v0 {
namespace sched {

class Trace {
 public:
  // Nothing is written while it is off.
  void Begin(bool on) {
    on_ = on;
    text_.clear();
  }
  const std::string& text() const { return text_; }

  static std::string Name(const Cell& cell) {
    if (cell.label == nullptr && cell.location == Cell::kNone)
      return "an atomic";
    return LocationText(cell.label, cell.location + 1, "a");
  }

  // A fence or a relax.
  void Add(std::uint32_t step, ThreadId thread, const Op& op) {
    if (!on_) return;
    Line(step, thread, op);
    text_ += '\n';
  }

  // `age`: how many newer stores the location had.
  void Add(std::uint32_t step, ThreadId thread, const Op& op,
           const OpResult& result, Effect effect, std::size_t age) {
    if (!on_) return;
    Line(step, thread, op);
    text_ += Name(*op.cell);
    switch (effect) {
      case Effect::kWrite:
        text_ += " := " + ValueText(op.operand);
        break;
      case Effect::kUpdate:
        text_ += ' ' + ValueText(result.old) + " -> " +
                 ValueText(ValueAfter(op, result.old));
        break;
      case Effect::kRead:
        text_ += " = " + ValueText(result.old);
        if (IsCompare(op)) text_ += ", expected " + ValueText(op.expected);
        break;
      case Effect::kSpurious:
        text_ += " = " + ValueText(result.old) + ", fails spuriously";
        break;
    }
    if (age != 0) {
      text_ += "   (" + std::to_string(age) +
               (age == 1 ? " newer store)" : " newer stores)");
    }
    text_ += '\n';
  }

 private:
  void Line(std::uint32_t step, ThreadId thread, const Op& op) {
    std::string what = op.name;
    if (op.kind != OpKind::kRelax) {
      what += std::string("(") + OrderName(op.order);
      if (IsCompare(op)) what += std::string(", ") + OrderName(op.failure);
      what += ')';
    }
    std::string where;
    if (op.site.line != 0) {
      where =
          std::string(BaseName(op.site)) + ':' + std::to_string(op.site.line);
    }
    char line[160];
    std::snprintf(line, sizeof line, "%4u %-4s %-24.60s %-24s ", step,
                  ThreadText(thread).c_str(), where.c_str(), what.c_str());
    text_ += line;
  }

  bool on_ = false;
  std::string text_;
};

}  // namespace sched
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SCHED_TRACE_H_
