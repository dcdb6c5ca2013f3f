// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DMA_ABSL_H_
#define DMAMAP_DMA_ABSL_H_

// Optional: joins dmamap to Abseil for users who have it. The one header that
// needs more than the standard library; nothing else includes it.
//
//   absl::StatusOr<Iova> iova = ToStatusOr(allocator.Allocate(4));
//   struct P : DomainPolicies { using LockType = AbslMutexLock; };

#include <cstddef>
#include <span>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

// The canonical code nearest to `error`.
inline absl::StatusCode ToStatusCode(Error error) {
  switch (error) {
    case Error::kInvalidArgument:
    case Error::kMismatch:
      return absl::StatusCode::kInvalidArgument;
    case Error::kOverflow:
    case Error::kOutOfRange:
      return absl::StatusCode::kOutOfRange;
    case Error::kNoSpace:
    case Error::kNoMemory:
    case Error::kLimit:
    case Error::kPoolEmpty:
    case Error::kBudget:
      return absl::StatusCode::kResourceExhausted;
    case Error::kNotMapped:
    case Error::kForeign:
      return absl::StatusCode::kNotFound;
    case Error::kPermission:
      return absl::StatusCode::kPermissionDenied;
    case Error::kBusy:
      return absl::StatusCode::kUnavailable;
    case Error::kDoubleFree:
    case Error::kShutDown:
      return absl::StatusCode::kFailedPrecondition;
    case Error::kOverlap:
      return absl::StatusCode::kAlreadyExists;
    case Error::kUnsupported:
      return absl::StatusCode::kUnimplemented;
    case Error::kDevice:
      return absl::StatusCode::kDataLoss;
  }
  return absl::StatusCode::kUnknown;
}

// The message is the error's stable name ("kNoSpace").
inline absl::Status ToStatus(Error error) {
  return absl::Status(ToStatusCode(error), ToString(error));
}
inline absl::Status ToStatus(const Result<void>& result) {
  return result.ok() ? absl::OkStatus() : ToStatus(result.error());
}
template <class T>
absl::StatusOr<T> ToStatusOr(Result<T> result) {
  if (!result.ok()) return ToStatus(result.error());
  return *std::move(result);
}

// absl::Mutex under the standard's Lockable names.
class AbslMutexLock {
 public:
  void lock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mutex_.Lock(); }
  bool try_lock() ABSL_NO_THREAD_SAFETY_ANALYSIS { return mutex_.TryLock(); }
  void unlock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mutex_.Unlock(); }

 private:
  absl::Mutex mutex_;
};
static_assert(Lock<AbslMutexLock>);

// The same elements, for an interface that takes a std::span.
template <class T>
constexpr std::span<T> FromAbslSpan(absl::Span<T> span) {
  return std::span<T>(span.data(), span.size());
}
template <class T>
constexpr absl::Span<T> ToAbslSpan(std::span<T> span) {
  return absl::Span<T>(span.data(), span.size());
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DMA_ABSL_H_
