// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SCHED_PLAIN_STATE_H_
#define DMAMAP_TESTING_SCHED_PLAIN_STATE_H_

// Races: finds two conflicting plain accesses that nothing orders.
//
// Each variable remembers its last write and the last read of each thread, as
// FastTrack does (Flanagan and Freund, PLDI 2009). A race is found in whatever
// order the two accesses are executed, hence a plain access is no point at
// which the scheduler switches.

#include <cstdint>
#include <string>

#include "dma/version.h"
#include "testing/sched/op.h"
#include "testing/sched/view.h"

namespace dmamap::inline v0 {
namespace sched {

struct PlainState {
  std::uint32_t execution = 0;  // in which the rest is valid
  std::uint32_t number = 0;
  const char* label = nullptr;
  Epoch write;
  Clock reads;
};

class Races {
 public:
  void Begin(std::uint32_t execution) {
    execution_ = execution;
    count_ = 0;
  }

  // Each returns what is wrong, or nothing. `now` is what happens before the
  // access in `thread`, its own time included.
  std::string Read(PlainState& state, ThreadId thread, const Clock& now) {
    Renew(state);
    if (!now.Covers(state.write)) return Text(state, thread, "reads", "writes");
    state.reads.at[thread] = now.at[thread];
    return {};
  }
  std::string Write(PlainState& state, ThreadId thread, const Clock& now) {
    Renew(state);
    if (!now.Covers(state.write)) {
      return Text(state, thread, "writes", "writes");
    }
    for (ThreadId t = 0; t <= kMaxThreads; ++t) {
      if (now.Covers({t, state.reads.at[t]})) continue;
      state.write.thread = t;  // for the text
      return Text(state, thread, "writes", "reads");
    }
    state.write = {thread, now.at[thread]};
    return {};
  }

 private:
  void Renew(PlainState& state) {
    if (state.execution == execution_) return;
    state = {execution_, ++count_, state.label, Epoch{}, Clock{}};
  }

  static std::string Text(const PlainState& state, ThreadId thread,
                          const char* now, const char* then) {
    return std::string("data race: ") + ThreadText(thread) + " " + now + " " +
           LocationText(state.label, state.number, "p") + ", which " +
           ThreadText(state.write.thread) + " " + then +
           ", and nothing orders the two";
  }

  std::uint32_t execution_ = 0;
  std::uint32_t count_ = 0;
};

}  // namespace sched
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SCHED_PLAIN_STATE_H_
