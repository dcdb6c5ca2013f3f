// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SCHED_ATOMIC_H_
#define DMAMAP_TESTING_SCHED_ATOMIC_H_

// sched::Atomic: the atomic policy that a test gives to the shipped source.
//
//   BasicSpinLock<sched::Atomic> lock;    // in place of std::atomic
//
// The interface of std::atomic for trivially copyable types of at most 16
// bytes, without wait and notify (what they promise is a matter of time, and
// there is none here). Outside of Explore and Replay it acts as a variable of
// one thread. It also names the rest of the policy (dma/atom.h): Plain, the
// fence, the relax.

#include <atomic>
#include <cstddef>
#include <type_traits>

#include "dma/atom.h"
#include "dma/version.h"
#include "testing/sched/engine.h"
#include "testing/sched/op.h"
#include "testing/sched/plain.h"
#include "testing/sched/site.h"

namespace dmamap::inline v0 {
namespace sched {

template <class T>
class Atomic {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(Value));
  static constexpr bool kIntegral =
      std::is_integral_v<T> && !std::is_same_v<T, bool>;
  static constexpr bool kPointer = std::is_pointer_v<T>;
  using Order = std::memory_order;
  static constexpr Order kSeqCst = std::memory_order_seq_cst;

 public:
  using value_type = T;
  using difference_type = std::conditional_t<kPointer, std::ptrdiff_t, T>;
  static constexpr bool is_always_lock_free = true;

  Atomic() : Atomic(T()) {}
  // Implicit, as std::atomic's is.
  Atomic(T value) {  // NOLINT(google-explicit-constructor)
    cell_.value = ToValue(value);
    if (Engine* engine = Engine::Current()) engine->Created(cell_);
  }
  ~Atomic() {
    if (Engine* engine = Engine::Current()) engine->Destroyed(cell_);
  }
  Atomic(const Atomic&) = delete;
  Atomic& operator=(const Atomic&) = delete;

  bool is_lock_free() const { return true; }

  T load(Order order = kSeqCst, Site site = Site::Here()) const {
    if (order == std::memory_order_release ||
        order == std::memory_order_acq_rel) {
      Misuse("load with a release order");
    }
    // As Perform would do, sooner: a check of a whole table is many of these.
    const Engine* engine = Engine::Current();
    if (engine == nullptr || engine->IsBare(cell_)) {
      return FromValue<T>(cell_.value);
    }
    return FromValue<T>(Do({.kind = OpKind::kLoad,
                            .order = order,
                            .cell = &cell_,
                            .name = "load",
                            .site = site})
                            .old);
  }
  operator T() const { return load(); }  // NOLINT(google-explicit-constructor)

  void store(T value, Order order = kSeqCst, Site site = Site::Here()) {
    if (order != std::memory_order_relaxed &&
        order != std::memory_order_release && order != kSeqCst) {
      Misuse("store with an acquire order");
    }
    Do({.kind = OpKind::kStore,
        .order = order,
        .cell = &cell_,
        .name = "store",
        .site = site,
        .operand = ToValue(value)});
  }
  T operator=(T value) {
    store(value);
    return value;
  }

  T exchange(T value, Order order = kSeqCst, Site site = Site::Here()) {
    return Update("exchange", value, order, site,
                  [](T, T operand) { return operand; });
  }

  bool compare_exchange_weak(T& expected, T desired, Order success,
                             Order failure, Site site = Site::Here()) {
    return Compare(OpKind::kCompareWeak, "compare_exchange_weak", expected,
                   desired, success, failure, site);
  }
  bool compare_exchange_weak(T& expected, T desired, Order order = kSeqCst,
                             Site site = Site::Here()) {
    return compare_exchange_weak(expected, desired, order, LoadPart(order),
                                 site);
  }
  bool compare_exchange_strong(T& expected, T desired, Order success,
                               Order failure, Site site = Site::Here()) {
    return Compare(OpKind::kCompareStrong, "compare_exchange_strong", expected,
                   desired, success, failure, site);
  }
  bool compare_exchange_strong(T& expected, T desired, Order order = kSeqCst,
                               Site site = Site::Here()) {
    return compare_exchange_strong(expected, desired, order, LoadPart(order),
                                   site);
  }

  T fetch_add(difference_type by, Order order = kSeqCst,
              Site site = Site::Here()) requires(kIntegral || kPointer) {
    return Update(
        "fetch_add", by, order, site,
        [](T old, difference_type operand) { return Plus(old, operand); });
  }
  T fetch_sub(difference_type by, Order order = kSeqCst,
              Site site = Site::Here()) requires(kIntegral || kPointer) {
    return Update(
        "fetch_sub", by, order, site,
        [](T old, difference_type operand) { return Minus(old, operand); });
  }
  T fetch_and(T bits, Order order = kSeqCst,
              Site site = Site::Here()) requires(kIntegral) {
    return Update("fetch_and", bits, order, site, [](T old, T operand) {
      return static_cast<T>(old & operand);
    });
  }
  T fetch_or(T bits, Order order = kSeqCst,
             Site site = Site::Here()) requires(kIntegral) {
    return Update("fetch_or", bits, order, site, [](T old, T operand) {
      return static_cast<T>(old | operand);
    });
  }
  T fetch_xor(T bits, Order order = kSeqCst,
              Site site = Site::Here()) requires(kIntegral) {
    return Update("fetch_xor", bits, order, site, [](T old, T operand) {
      return static_cast<T>(old ^ operand);
    });
  }

  // clang-format off
  T operator++() requires(kIntegral || kPointer) { return Plus(fetch_add(1), 1); }
  T operator--() requires(kIntegral || kPointer) { return Minus(fetch_sub(1), 1); }
  T operator++(int) requires(kIntegral || kPointer) { return fetch_add(1); }
  T operator--(int) requires(kIntegral || kPointer) { return fetch_sub(1); }
  T operator+=(difference_type by) requires(kIntegral || kPointer) { return Plus(fetch_add(by), by); }
  T operator-=(difference_type by) requires(kIntegral || kPointer) { return Minus(fetch_sub(by), by); }
  T operator&=(T bits) requires(kIntegral) { return static_cast<T>(fetch_and(bits) & bits); }
  T operator|=(T bits) requires(kIntegral) { return static_cast<T>(fetch_or(bits) | bits); }
  T operator^=(T bits) requires(kIntegral) { return static_cast<T>(fetch_xor(bits) ^ bits); }
  // clang-format on

  // Its name in reports; a string that lives as long. Not part of std::atomic.
  void SetLabel(const char* label) { cell_.label = label; }

 private:
  // Atomic arithmetic wraps, also for signed types ([atomics.types.int]).
  static T Plus(T old, difference_type by) {
    if constexpr (kPointer) {
      return old + by;
    } else {
      using U = std::make_unsigned_t<T>;
      return static_cast<T>(
          static_cast<U>(static_cast<U>(old) + static_cast<U>(by)));
    }
  }
  static T Minus(T old, difference_type by) {
    if constexpr (kPointer) {
      return old - by;
    } else {
      using U = std::make_unsigned_t<T>;
      return static_cast<T>(
          static_cast<U>(static_cast<U>(old) - static_cast<U>(by)));
    }
  }

  // The order of a failed compare when only one is given.
  static constexpr Order LoadPart(Order order) {
    if (order == std::memory_order_acq_rel) return std::memory_order_acquire;
    if (order == std::memory_order_release) return std::memory_order_relaxed;
    return order;
  }

  static OpResult Do(const Op& op) {
    Engine* engine = Engine::Current();
    return engine != nullptr ? engine->Perform(op) : Bare(op);
  }
  static void Misuse(const char* what) {
    if (Engine* engine = Engine::Current()) engine->Fail(what);
  }

  // `change` is a lambda without captures.
  template <class Operand, class Change>
  T Update(const char* name, Operand operand, Order order, Site site, Change) {
    Op op{.kind = OpKind::kUpdate,
          .order = order,
          .cell = &cell_,
          .name = name,
          .site = site,
          .operand = ToValue(operand)};
    op.apply = [](const Value& old, const Value& by) {
      return ToValue<T>(Change{}(FromValue<T>(old), FromValue<Operand>(by)));
    };
    return FromValue<T>(Do(op).old);
  }

  bool Compare(OpKind kind, const char* name, T& expected, T desired,
               Order success, Order failure, Site site) {
    if (failure == std::memory_order_release ||
        failure == std::memory_order_acq_rel) {
      Misuse("compare_exchange that releases on failure");
    }
    const OpResult result = Do({.kind = kind,
                                .order = success,
                                .failure = failure,
                                .cell = &cell_,
                                .name = name,
                                .site = site,
                                .operand = ToValue(desired),
                                .expected = ToValue(expected)});
    if (!result.done) expected = FromValue<T>(result.old);
    return result.done;
  }

  mutable Cell cell_;
};

}  // namespace sched

// Under any name: a policy names it by an alias template, which is a template
// of its own to some compilers (clang 14).
template <template <class> class Atom>
requires std::is_same_v<Atom<int>, sched::Atomic<int>>
struct AtomTraits<Atom> {
  template <class T>
  using Plain = sched::Plain<T>;

  using Site = sched::Site;

  static void Fence(std::memory_order order, Site site) {
    if (sched::Engine* engine = sched::Engine::Current()) {
      engine->Perform({.kind = sched::OpKind::kFence,
                       .order = order,
                       .name = "fence",
                       .site = site});
    }
  }
  static void Relax(Site site) {
    if (sched::Engine* engine = sched::Engine::Current()) {
      engine->Perform(
          {.kind = sched::OpKind::kRelax, .name = "relax", .site = site});
    }
  }
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SCHED_ATOMIC_H_
