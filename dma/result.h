// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DMA_RESULT_H_
#define DMAMAP_DMA_RESULT_H_

// Errors as values: `Error` names what is wrong, `Result<T>` is a T or an
// Error.
//
//   Result<Iova> r = allocator.Allocate(4);
//   if (!r.ok()) return r.error();
//   Use(*r);
//
// No exceptions, no allocation. A Result of a trivially copyable T is itself
// trivially copyable, and a Result<Iova> travels in two registers (x86-64 and
// aarch64 psABI), so that an error value costs nothing on a fast path.
// `[[nodiscard]]`: an ignored Result is a compiler warning.

#include <cstdint>
#include <optional>
#include <type_traits>
#include <utility>

#include "dma/assert.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

// What went wrong. The numbers are stable: they may be logged or stored.
enum class [[nodiscard]] Error : std::uint8_t{
    kInvalidArgument =
        1,              // an argument is wrong by itself (zero size, bad enum)
    kOverflow = 2,      // first + size passes 2^64-1
    kNoSpace = 3,       // no free range of I/O addresses fits the request
    kNoMemory = 4,      // host memory (the C++ allocator) is exhausted
    kNotMapped = 5,     // nothing is mapped at this address
    kPermission = 6,    // mapped, but not for this kind of access
    kBusy = 7,          // still in use, or somebody else is at it; try again
    kLimit = 8,         // a configured bound (entries, bytes) is reached
    kMismatch = 9,      // size, direction or tag differ from what is recorded
    kForeign = 10,      // this address was never handed out by this object
    kDoubleFree = 11,   // this address was handed out, but is already free
    kOverlap = 12,      // the range overlaps one that is already there
    kOutOfRange = 13,   // outside the window, mapping or ring it belongs to
    kUnsupported = 14,  // this build, policy or host cannot do it
    kDevice = 15,       // the device reported something impossible
    kPoolEmpty = 16,    // a buffer or page pool has nothing left
    kShutDown = 17,     // the object is being torn down
    kBudget = 18,       // a budget of bytes for memory is used up
};

// A short stable name ("kNoSpace"), for logs and tests.
constexpr const char* ToString(Error error) {
  switch (error) {
    case Error::kInvalidArgument:
      return "kInvalidArgument";
    case Error::kOverflow:
      return "kOverflow";
    case Error::kNoSpace:
      return "kNoSpace";
    case Error::kNoMemory:
      return "kNoMemory";
    case Error::kNotMapped:
      return "kNotMapped";
    case Error::kPermission:
      return "kPermission";
    case Error::kBusy:
      return "kBusy";
    case Error::kLimit:
      return "kLimit";
    case Error::kMismatch:
      return "kMismatch";
    case Error::kForeign:
      return "kForeign";
    case Error::kDoubleFree:
      return "kDoubleFree";
    case Error::kOverlap:
      return "kOverlap";
    case Error::kOutOfRange:
      return "kOutOfRange";
    case Error::kUnsupported:
      return "kUnsupported";
    case Error::kDevice:
      return "kDevice";
    case Error::kPoolEmpty:
      return "kPoolEmpty";
    case Error::kShutDown:
      return "kShutDown";
    case Error::kBudget:
      return "kBudget";
  }
  return "unknown error";
}

namespace internal {

// Error 0 is no enumerator: it marks success.
inline constexpr Error kNoError = static_cast<Error>(0);

// Trivially copyable T: value and error side by side, in registers.
template <class T, bool = std::is_trivially_copyable_v<T>&&
                       std::is_default_constructible_v<T>>
class ResultStorage {
 public:
  constexpr explicit ResultStorage(Error error) : error_(error) {}
  constexpr explicit ResultStorage(T value) : value_(std::move(value)) {}
  constexpr bool has_value() const { return error_ == kNoError; }
  constexpr Error error() const { return error_; }
  constexpr T& get() { return value_; }
  constexpr const T& get() const { return value_; }

 private:
  T value_{};
  Error error_ = kNoError;
};

// Any other T (move-only ones too).
template <class T>
class ResultStorage<T, false> {
 public:
  constexpr explicit ResultStorage(Error error) : error_(error) {}
  constexpr explicit ResultStorage(T value) : value_(std::move(value)) {}
  constexpr bool has_value() const { return value_.has_value(); }
  constexpr Error error() const { return error_; }
  constexpr T& get() { return *value_; }
  constexpr const T& get() const { return *value_; }

 private:
  std::optional<T> value_;
  Error error_ = kNoError;
};

}  // namespace internal

// A T, or the reason why there is none. Not thread-safe; copy it freely.
template <class T>
class [[nodiscard]] Result {
 public:
  using value_type = T;

  // Implicit on purpose: `return Error::kNoSpace;` and `return iova;`.
  constexpr Result(Error error) : storage_(error) {
    DMAMAP_ASSERT(error != internal::kNoError);
  }
  constexpr Result(T value) : storage_(std::move(value)) {}

  constexpr bool ok() const { return storage_.has_value(); }
  constexpr explicit operator bool() const { return ok(); }

  // REQUIRES: !ok().
  constexpr Error error() const {
    DMAMAP_ASSERT(!ok());
    return storage_.error();
  }

  // REQUIRES: ok().
  constexpr T& value() & { return Checked(); }
  constexpr const T& value() const& { return Checked(); }
  constexpr T&& value() && { return std::move(Checked()); }
  constexpr T& operator*() & { return Checked(); }
  constexpr const T& operator*() const& { return Checked(); }
  constexpr T&& operator*() && { return std::move(Checked()); }
  constexpr T* operator->() { return &Checked(); }
  constexpr const T* operator->() const { return &Checked(); }

  constexpr T value_or(T other) const {
    return ok() ? storage_.get() : std::move(other);
  }

 private:
  constexpr T& Checked() {
    DMAMAP_ASSERT(ok());
    return storage_.get();
  }
  constexpr const T& Checked() const {
    DMAMAP_ASSERT(ok());
    return storage_.get();
  }

  internal::ResultStorage<T> storage_;
};

// Done, or the reason why not. `return Ok();` on success.
template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;

  constexpr Result() = default;
  constexpr Result(Error error) : error_(error) {
    DMAMAP_ASSERT(error != internal::kNoError);
  }

  constexpr bool ok() const { return error_ == internal::kNoError; }
  constexpr explicit operator bool() const { return ok(); }

  // REQUIRES: !ok().
  constexpr Error error() const {
    DMAMAP_ASSERT(!ok());
    return error_;
  }

 private:
  Error error_ = internal::kNoError;
};

constexpr Result<void> Ok() { return Result<void>(); }

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DMA_RESULT_H_
