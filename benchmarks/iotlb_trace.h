// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_IOTLB_TRACE_H_
#define DMAMAP_BENCHMARKS_IOTLB_TRACE_H_

// An .iotlb trace: what an emulated IOMMU's translation cache was asked and
// told, ready for a replay. The reader keeps a plain table of what should be
// cached and marks each access with the answer that the recording implies, so
// that a replay tells a fault of the IOTLB from an oddity of the recording.
//
// The cache of the emulator (QEMU's VT-d model) has 1024 entries and forgets
// them all (R) when one more comes. It logs the fill (u) first, then R, and
// enters the new translation last: an R keeps the fill right before it. With
// that reading each R of the recorded trace finds exactly 1024 + 1 entries.
//
// Accesses carry a source (bus, device, function), invalidations a domain;
// which source is in which domain is not recorded. An invalidation therefore
// reaches every source. (The recorded files have one of each.)
//
// Refused, with file and line, as impossible:
//   * a translation that allows neither read nor write (bits 0 and 1);
//   * an invalidation of more than 2^52 pages; an R without a fill before it;
//     time that runs backwards; a bad field.
// Counted as a gap of the recording, and replayed as a fill:
//   * a hit on a page that nothing on record filled;
//   * a hit with another translation than the one on record;
//   * a fill of a page that is still present.

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "benchmarks/row_reader.h"
#include "benchmarks/trace.h"
#include "dma/address.h"
#include "dma/direction.h"

namespace dmamap::bench {

struct IotlbEvent {
  enum class Op : std::uint8_t {
    kAccess,         // h or u: a device access, looked up
    kFill,           // the second half of u: the translation is entered
    kInvalidate,     // p: the pages under `pages` pages from `iova`
    kInvalidateAll,  // d, g, R
  };
  // What a lookup must answer, by the recording.
  enum class Expect : std::uint8_t { kHit, kMiss };

  Op op;
  Expect expect;          // kAccess only
  Permission permission;  // kAccess: asked for; kFill: granted
  std::uint16_t source;   // counted from 0; kAccess and kFill only
  Iova iova;              // bytes; of the page for kFill and kInvalidate
  PhysAddr address;       // of `iova`; kAccess (when kHit) and kFill
  std::uint64_t pages;    // kInvalidate only
};

struct IotlbTrace {
  static constexpr const char* kHeader = "us,op,sid_or_dom,iova,slpte_or_am";

  std::vector<IotlbEvent> events;
  std::uint32_t sources = 0;
  std::uint64_t recorded_hits = 0;
  std::uint64_t recorded_misses = 0;
  std::uint64_t peak_entries = 0;
  std::vector<Gap> gaps;
};

// Reads the rows of `rows`, whose header is IotlbTrace::kHeader.
absl::StatusOr<IotlbTrace> ReadIotlbTrace(RowReader& rows);

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_IOTLB_TRACE_H_
