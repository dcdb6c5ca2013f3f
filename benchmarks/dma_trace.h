// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_DMA_TRACE_H_
#define DMAMAP_BENCHMARKS_DMA_TRACE_H_

// A .dma trace: what a driver asked of the DMA API, ready for a replay. Each
// mapping, scatter list and coherent block has a slot while it is live.
//
// The rule behind all checks: an I/O page belongs to one mapping at a time, as
// the DMA layer of an IOMMU hands them out.
//
// Refused, with file and line, as impossible:
//   * an unmap of something not mapped, or with another size or direction;
//   * a sync that is not inside one live mapping, or for a direction in which
//     that mapping does not go;
//   * an unmap_sg or a coherent free that no live map_sg or block matches;
//   * an offset in the page that contradicts the address; size 0; more than
//     256 MiB mapped at once; time that runs backwards; a bad field.
// Counted as a gap of the recording:
//   * a page mapped while an older mapping of it is live. Only a lost unmap
//     explains it: the reader puts that unmap in, right before the map, marked
//     `implied`.
// What is live at the end is no gap: the recorder stopped, not the driver.
//
// G, g, A and F rows of the recorder have no address. A g belongs to the oldest
// live G with as many entries and the same direction, an F to the oldest live A
// of the same size; where both rows of a pair carry an address it must match.

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "benchmarks/row_reader.h"
#include "benchmarks/trace.h"
#include "dma/direction.h"

namespace dmamap::bench {

struct DmaEvent {
  enum class Op : std::uint8_t {
    kMap,            // M
    kUnmap,          // U
    kSyncForCpu,     // C
    kSyncForDevice,  // D
    kMapList,        // G
    kUnmapList,      // g
    kAllocate,       // A
    kFree,           // F
  };
  static constexpr std::size_t kOps = 8;

  Op op;
  Direction direction;   // of the mapping, not of the sync
  bool implied;          // a kUnmap that the recording lacks
  std::uint16_t lane;    // index into DmaTrace::cpus
  std::uint32_t slot;    // of its kind: mapping, list or block
  std::uint64_t size;    // bytes; entries for kMapList and kUnmapList
  std::uint64_t offset;  // bytes: in the page (kMap), in the mapping (syncs)
};

struct DmaTrace {
  static constexpr const char* kHeader = "us,cpu,op,addr,size,dir,off";

  std::vector<DmaEvent> events;
  std::vector<std::uint64_t> cpus;  // recorded CPU of each lane
  std::uint32_t mapping_slots = 0;
  std::uint32_t list_slots = 0;
  std::uint32_t block_slots = 0;
  std::uint64_t peak_stream_bytes = 0;    // whole pages mapped at once
  std::uint64_t peak_coherent_bytes = 0;  // whole pages
  std::uint64_t live_at_end = 0;          // mappings and lists
  std::vector<Gap> gaps;
};

// Bytes of entry `index` of a scatter list with `entries` entries, of which the
// recording gives the number alone. 97.6 % of the recorded lists (compared with
// the .iova rows of the same run) span the next power of two of pages: the
// block sizes are powers of two, and the block layer merged neighbours. So the
// list is whole pages, bit_ceil(entries) of them, the first entries having two.
std::uint64_t ListEntryBytes(std::uint64_t entries, std::uint64_t index);
std::uint64_t ListBytes(std::uint64_t entries);

// Reads the rows of `rows`, whose header is DmaTrace::kHeader.
absl::StatusOr<DmaTrace> ReadDmaTrace(RowReader& rows);

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_DMA_TRACE_H_
