// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SCHED_PROGRESS_H_
#define DMAMAP_TESTING_SCHED_PROGRESS_H_

// Progress: does a thread only spin?
//
// A loop that waits for another thread would make an endless branch of the
// search. But as long as it reads the same values again and writes nothing, one
// more turn of it changes nothing: the thread may as well wait until somebody
// writes. A *turn* ends with each write of the thread and with each read of a
// value that it did not know; `rereads` reads of the same value are free in a
// turn, because code that looks twice (a validation, a retry) is no spin loop.
// A thread that was woken gets one more look at each location.

#include <cstdint>
#include <vector>

#include "dma/version.h"
#include "testing/sched/view.h"

namespace dmamap::inline v0 {
namespace sched {

class Progress {
 public:
  void Clear(std::uint32_t rereads) {
    known_.clear();
    turn_ = 1;
    relaxed_ = 0;
    woken_ = false;
    rereads_ = rereads;
  }

  void NoteRead(LocationId l, const Value& value) {
    Known& known = At(l);
    if (known.turn == 0 || known.value != value) {
      NewTurn();
      known = {value, turn_, 0};
    } else if (known.turn != turn_) {
      known.turn = turn_;
      known.again = 1;
    } else {
      ++known.again;
    }
  }

  void NoteWrite(LocationId l, const Value& value) {
    NewTurn();
    At(l) = {value, turn_, 0};
  }

  // Another thread has written.
  void Wake() {
    NewTurn();
    woken_ = true;
  }

  // Notes one AtomRelax; true when it is the second in this turn.
  bool Relax() {
    if (relaxed_ == turn_) return true;
    relaxed_ = turn_;
    return false;
  }

  // To read `value` here tells the thread nothing, and it did so often enough.
  bool Exhausted(LocationId l, const Value& value) const {
    if (l >= known_.size()) return false;
    const Known& known = known_[l];
    return known.turn == turn_ && known.value == value &&
           known.again >= (woken_ ? 1 : rereads_);
  }

  // To read an overwritten `value` here only puts off what the thread waits
  // for.
  bool OnlyDelays(LocationId l, const Value& value) const {
    if (l >= known_.size()) return false;
    const Known& known = known_[l];
    return known.turn != 0 && known.value == value &&
           (woken_ || Exhausted(l, value));
  }

 private:
  struct Known {
    Value value = {};         // last read or written here
    std::uint32_t turn = 0;   // when; 0: never
    std::uint32_t again = 0;  // rereads in that turn
  };

  Known& At(LocationId l) {
    if (l >= known_.size()) known_.resize(l + 1);
    return known_[l];
  }
  void NewTurn() {
    ++turn_;
    woken_ = false;
  }

  std::vector<Known> known_;
  std::uint32_t turn_ = 1;
  std::uint32_t relaxed_ = 0;
  std::uint32_t rereads_ = 0;
  bool woken_ = false;
};

}  // namespace sched
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SCHED_PROGRESS_H_
