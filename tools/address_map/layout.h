// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TOOLS_ADDRESS_MAP_LAYOUT_H_
#define DMAMAP_TOOLS_ADDRESS_MAP_LAYOUT_H_

// Where everything of the picture goes, in pixels of the plot and without a
// word of SVG.
//
// Down: the 2 MiB regions that were ever touched, the highest address on top;
// what lies between them is left out. A range lies in touched regions alone, so
// it is one rectangle even where it crosses a boundary.
//
// Across: steps (allocations and frees, each as wide as the other) or recorded
// time. A range lies from its allocation to its free.
//
// What is drawn is bounded, however long the trace: the ranges of the largest
// area have a rectangle each, and all others together are a raster. A cell of
// it belongs to who held most of it, in a shade for the share that was held.
// The cells grow until the raster is small enough.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tools/address_map/counters.h"
#include "tools/address_map/replay.h"

namespace dmamap::address_map {

enum class TimeAxis { kSteps, kMicroseconds };

struct LayoutOptions {
  double width = 1200;  // of the plot
  double height = 640;  // of the address space, at most
  TimeAxis axis = TimeAxis::kSteps;
  std::size_t max_boxes = 5000;
  std::size_t max_runs = 60'000;
};

// A touched region.
struct RegionRow {
  std::uint64_t region;  // address divided by 2 MiB
  double top;
  bool gap_below;  // addresses are left out between it and the next row
};

// A range of its own.
struct Box {
  double x, y, width, height;
  std::size_t range;  // index into History::ranges
};

// Cells of the raster side by side that look the same. In cells.
struct CellRun {
  static constexpr unsigned kShades = 4;

  std::uint32_t column, row, columns;
  std::uint8_t holder;
  std::uint8_t shade;  // 1 .. kShades: held for up to shade/kShades of the cell

  friend bool operator==(const CellRun&, const CellRun&) = default;
};

struct Raster {
  std::size_t ranges = 0;  // merged into it
  double cell = 1;         // both sides, in pixels
  std::vector<CellRun> runs;
};

// What a curve does within one pixel column.
struct Sample {
  double least, mean, most;
  bool known;  // false: it has no value anywhere in the column

  friend bool operator==(const Sample&, const Sample&) = default;
};
using Curve = std::vector<Sample>;  // one for each column

struct Totals {
  std::uint64_t peak_live_pages = 0;
  std::uint64_t peak_regions = 0;
  // Over the axis, where anything is live.
  double mean_regions = 0;
  double mean_fragmentation = 0;
  std::size_t live_at_end = 0;  // ranges
};

struct Layout {
  LayoutOptions options;
  double span = 1;    // of the axis, in steps or microseconds
  double origin = 0;  // its first value
  double row_height = 0;
  double height = 0;               // of all rows
  std::vector<RegionRow> regions;  // from the top
  std::vector<Box> boxes;
  Raster raster;
  Curve live_bytes, regions_in_use, fewest_regions;
  Curve fragmentation;  // not known where nothing is live
  Totals totals;
};

// REQUIRES: the history has steps; width and height are at least 1.
Layout LayOut(const History& history, const LayoutOptions& options);

}  // namespace dmamap::address_map

#endif  // DMAMAP_TOOLS_ADDRESS_MAP_LAYOUT_H_
