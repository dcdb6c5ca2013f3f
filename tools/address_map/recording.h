// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TOOLS_ADDRESS_MAP_RECORDING_H_
#define DMAMAP_TOOLS_ADDRESS_MAP_RECORDING_H_

// What a picture needs of a trace: each allocation and free of I/O addresses,
// with its time, its recorded address and who holds the range.
//
// The readers of //benchmarks check the file and number its ranges; what a
// replay has no use for (times, addresses) is fetched from the same rows in a
// second pass.
//
//   .iova  addresses, sizes, frees as the allocator saw them (behind the flush
//          queue where it was lazy). The holder is a size class.
//   .dma   map and unmap as the driver called them. The holder is the kind of
//          mapping and its direction. Lists and coherent blocks usually have no
//          recorded address; a list has ListBytes() (benchmarks/dma_trace.h).

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace dmamap::address_map {

// An allocation or free of one range, in the recorded order.
struct Step {
  bool allocates;
  std::uint8_t holder;  // index into Recording::holders
  std::uint16_t lane;   // counted from 0, one for each recorded CPU
  std::uint32_t range;  // ranges are numbered as they are allocated
  std::uint64_t us;     // since the first event of the file
  std::uint64_t pages;  // of 4 KiB
  std::uint64_t limit;  // last page that it may have, inclusive
  std::uint64_t page;   // first, as recorded; 0: the trace has none
};

struct Recording {
  enum class Kind { kIova, kDma };

  Kind kind = Kind::kIova;
  std::string name;  // of the file, without its folder
  std::vector<std::string> holders;
  std::vector<Step> steps;
  std::vector<std::uint64_t> cpus;  // recorded number of each lane
  std::size_t ranges = 0;
  std::uint64_t last_limit = 0;    // the largest of the steps
  std::vector<std::string> notes;  // for the reader of the picture
};

// Of several address spaces in an .iova trace `domain` (its recorded number)
// chooses; by default the one with most steps. Errors begin with "path:line: "
// (or "path: ") and are those of ReadTrace; besides, NotFound for a domain that
// the trace lacks, InvalidArgument for an .iotlb trace, which has no
// allocations.
absl::StatusOr<Recording> ReadRecording(const std::string& path,
                                        std::optional<std::uint64_t> domain);

// Lets the .dma trace of the same run say who holds what an .iova trace
// allocates. Each mapping, list and block took one range, on its own CPU and in
// its own order; where the .dma trace has an address, it must be that of the
// range. (A call that moved to another CPU half-way is looked for there.)
//
// InvalidArgument, and nothing has changed, when a range of `iova` is not found
// that way, or when either is of the other kind.
absl::Status TakeHolders(const Recording& dma, Recording& iova);

}  // namespace dmamap::address_map

#endif  // DMAMAP_TOOLS_ADDRESS_MAP_RECORDING_H_
