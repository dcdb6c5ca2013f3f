// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SCHED_PLAIN_H_
#define DMAMAP_TESTING_SCHED_PLAIN_H_

// sched::Plain<T>: a shared variable that is not atomic.
//
// Two accesses from different threads, one of them a write, that no
// synchronisation orders are a data race, which fails the execution. Code under
// test names it PlainFor<Atom, T> (dma/atom.h), which is T itself with
// std::atomic. Read by conversion or Get(), written by assignment.

#include <utility>

#include "dma/version.h"
#include "testing/sched/engine.h"
#include "testing/sched/plain_state.h"

namespace dmamap::inline v0 {
namespace sched {

template <class T>
class Plain {
 public:
  Plain() : value_() { NoteWrite(); }
  Plain(T value)  // NOLINT(google-explicit-constructor)
      : value_(std::move(value)) {
    NoteWrite();
  }
  Plain(const Plain& other) : value_(other.Get()) { NoteWrite(); }
  ~Plain() { NoteWrite(); }

  Plain& operator=(const Plain& other) { return *this = T(other.Get()); }
  Plain& operator=(T value) {
    NoteWrite();
    value_ = std::move(value);
    return *this;
  }

  const T& Get() const {
    if (Engine* engine = Engine::Current()) engine->ReadPlain(state_);
    return value_;
  }
  operator const T&() const {  // NOLINT(google-explicit-constructor)
    return Get();
  }
  const T& operator->() const { return Get(); }  // of a pointer

  // Each reads and writes.
  template <class U>
  Plain& operator+=(const U& by) {
    return *this = static_cast<T>(Get() + by);
  }
  template <class U>
  Plain& operator-=(const U& by) {
    return *this = static_cast<T>(Get() - by);
  }
  Plain& operator++() {
    T next = Get();
    return *this = ++next;
  }
  Plain& operator--() {
    T next = Get();
    return *this = --next;
  }
  T operator++(int) {
    T old = Get();
    ++*this;
    return old;
  }
  T operator--(int) {
    T old = Get();
    --*this;
    return old;
  }

  // Its name in reports; a string that lives as long.
  void SetLabel(const char* label) { state_.label = label; }

 private:
  void NoteWrite() {
    if (Engine* engine = Engine::Current()) engine->WritePlain(state_);
  }

  T value_;
  mutable PlainState state_;
};

}  // namespace sched
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SCHED_PLAIN_H_
