// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "tools/address_map/layout.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <utility>

namespace dmamap::address_map {
namespace {

constexpr double kTallestRow = 512;  // pixels: one a page
// What lasted no time at all is still seen.
constexpr double kNarrowest = 0.05;  // pixels

// Steps or microseconds to pixels.
class Across {
 public:
  Across(const History& history, const LayoutOptions& options)
      : history_(history), by_step_(options.axis == TimeAxis::kSteps) {
    const auto& us = history.us;
    origin_ = by_step_ ? 0 : static_cast<double>(us.front());
    const double length = by_step_
                              ? static_cast<double>(us.size())
                              : static_cast<double>(us.back() - us.front());
    span_ = std::max(length, 1.0);
    scale_ = options.width / span_;
  }

  // Where the step before which `steps` others were done takes effect.
  double At(std::size_t steps) const {
    if (by_step_) return static_cast<double>(steps) * scale_;
    const std::size_t last = history_.us.size() - 1;
    const auto us = static_cast<double>(history_.us[std::min(steps, last)]);
    return (us - origin_) * scale_;
  }
  double span() const { return span_; }
  double origin() const { return origin_; }

 private:
  const History& history_;
  bool by_step_;
  double origin_;
  double span_;
  double scale_;
};

// Pages to pixels.
class Down {
 public:
  Down(const History& history, double height) {
    for (const HeldRange& range : history.ranges) {
      for (std::uint64_t r = range.first >> kRegionShift;
           r <= range.last() >> kRegionShift; ++r) {
        if (regions_.empty() || regions_.back() != r) regions_.push_back(r);
      }
    }
    std::sort(regions_.begin(), regions_.end());
    regions_.erase(std::unique(regions_.begin(), regions_.end()),
                   regions_.end());
    row_height_ =
        std::min(kTallestRow, height / std::max(1.0, Count(regions_.size())));
  }

  // Of the end of the page that has the higher address.
  double TopOf(std::uint64_t page) const {
    const auto above =
        regions_.end() - std::lower_bound(regions_.begin(), regions_.end(),
                                          page >> kRegionShift);
    const double inside = Count((page & (kRegionPages - 1)) + 1) /
                          static_cast<double>(kRegionPages);
    return (static_cast<double>(above) - inside) * row_height_;
  }
  double PageHeight() const {
    return row_height_ / static_cast<double>(kRegionPages);
  }
  double row_height() const { return row_height_; }
  double height() const { return row_height_ * Count(regions_.size()); }

  std::vector<RegionRow> Rows() const {
    std::vector<RegionRow> rows;
    for (std::size_t i = regions_.size(); i-- > 0;) {
      rows.push_back(
          {.region = regions_[i],
           .top = Count(rows.size()) * row_height_,
           .gap_below = i != 0 && regions_[i - 1] + 1 != regions_[i]});
    }
    return rows;
  }

 private:
  static double Count(std::uint64_t n) { return static_cast<double>(n); }

  std::vector<std::uint64_t> regions_;  // ascending
  double row_height_;
};

std::vector<Box> AllBoxes(const History& history, const Across& across,
                          const Down& down) {
  std::vector<Box> boxes;
  boxes.reserve(history.ranges.size());
  for (std::size_t i = 0; i < history.ranges.size(); ++i) {
    const HeldRange& range = history.ranges[i];
    const double x = across.At(range.begin);
    boxes.push_back(
        {.x = x,
         .y = down.TopOf(range.last()),
         .width = std::max(across.At(range.end) - x, kNarrowest),
         .height = down.PageHeight() * static_cast<double>(range.pages),
         .range = i});
  }
  return boxes;
}

// Moves the boxes of the largest area to the front, `count` of them; among
// equals the earlier ones. Both parts are in the order of their ranges.
void LargestFirst(std::vector<Box>& boxes, std::size_t count) {
  if (boxes.size() <= count) return;
  const auto middle = boxes.begin() + static_cast<std::ptrdiff_t>(count);
  const auto larger = [](const Box& a, const Box& b) {
    const double area_a = a.width * a.height;
    const double area_b = b.width * b.height;
    return area_a != area_b ? area_a > area_b : a.range < b.range;
  };
  const auto earlier = [](const Box& a, const Box& b) {
    return a.range < b.range;
  };
  std::nth_element(boxes.begin(), middle, boxes.end(), larger);
  std::sort(boxes.begin(), middle, earlier);
  std::sort(middle, boxes.end(), earlier);
}

// How much of each cell each holder had.
class Cells {
 public:
  Cells(const Layout& layout, double cell, std::size_t holders)
      : cell_(cell),
        columns_(CellsIn(layout.options.width)),
        rows_(CellsIn(layout.height)),
        holders_(holders),
        held_(columns_ * rows_ * holders) {}

  void Add(const Box& box, std::uint8_t holder) {
    const double left = box.x / cell_;
    const double right = (box.x + box.width) / cell_;
    const double top = box.y / cell_;
    const double bottom = (box.y + box.height) / cell_;
    for (std::size_t row = First(top); row < End(bottom, rows_); ++row) {
      const double high = Shared(top, bottom, row);
      for (std::size_t c = First(left); c < End(right, columns_); ++c) {
        held_[(row * columns_ + c) * holders_ + holder] +=
            static_cast<float>(high * Shared(left, right, c));
      }
    }
  }

  std::vector<CellRun> Runs() const {
    std::vector<CellRun> runs;
    for (std::uint32_t row = 0; row < rows_; ++row) {
      bool open = false;  // the last run goes on here
      for (std::uint32_t column = 0; column < columns_; ++column) {
        const CellRun here = LookOf(column, row);
        if (here.shade == 0) {
          open = false;
        } else if (open && runs.back().holder == here.holder &&
                   runs.back().shade == here.shade) {
          ++runs.back().columns;
        } else {
          runs.push_back(here);
          open = true;
        }
      }
    }
    return runs;
  }

 private:
  std::size_t CellsIn(double length) const {
    return std::max<std::size_t>(
        1, static_cast<std::size_t>(std::ceil(length / cell_)));
  }
  static std::size_t First(double from) {
    return static_cast<std::size_t>(std::max(from, 0.0));
  }
  static std::size_t End(double to, std::size_t count) {
    return std::min(count, static_cast<std::size_t>(std::ceil(to)));
  }
  // The length that [from, to] and the cell share.
  static double Shared(double from, double to, std::size_t cell) {
    const auto at = static_cast<double>(cell);
    return std::max(0.0, std::min(to, at + 1) - std::max(from, at));
  }

  CellRun LookOf(std::uint32_t column, std::uint32_t row) const {
    const auto cell = std::span(held_).subspan(
        (row * columns_ + column) * holders_, holders_);
    const float total = std::accumulate(cell.begin(), cell.end(), 0.0f);
    const auto most = std::max_element(cell.begin(), cell.end());
    CellRun run = {
        .column = column, .row = row, .columns = 1, .holder = 0, .shade = 0};
    if (total <= 0) return run;
    run.holder = static_cast<std::uint8_t>(most - cell.begin());
    // A thousandth of a shade is rounding.
    const float shade = std::ceil(total * CellRun::kShades - 0.001f);
    run.shade = static_cast<std::uint8_t>(
        std::clamp(shade, 1.0f, static_cast<float>(CellRun::kShades)));
    return run;
  }

  double cell_;
  std::size_t columns_;
  std::size_t rows_;
  std::size_t holders_;
  std::vector<float> held_;
};

Raster Merge(const Layout& layout, const History& history,
             std::span<const Box> boxes) {
  Raster raster;
  raster.ranges = boxes.size();
  if (boxes.empty()) return raster;
  std::size_t holders = 0;
  for (const HeldRange& range : history.ranges) {
    holders = std::max<std::size_t>(holders, range.holder + 1u);
  }
  const double whole = std::max(layout.options.width, layout.height);
  for (raster.cell = 1;; raster.cell *= 2) {
    Cells cells(layout, raster.cell, holders);
    for (const Box& box : boxes) {
      cells.Add(box, history.ranges[box.range].holder);
    }
    raster.runs = cells.Runs();
    const bool fits = raster.runs.size() <= layout.options.max_runs;
    if (fits || raster.cell >= whole) return raster;
  }
}

// A value that changes at steps, brought to pixel columns.
class CurveMaker {
 public:
  explicit CurveMaker(double width)
      : width_(width),
        curve_(static_cast<std::size_t>(std::ceil(width))),
        covered_(curve_.size()) {}

  // The value between two places. A moment counts for the least and the most
  // alone, unless a column has nothing else.
  void Add(double from, double to, double value) {
    const std::size_t count = curve_.size();
    const auto first = std::min(static_cast<std::size_t>(from), count - 1);
    for (std::size_t i = first; i < count; ++i) {
      const auto left = static_cast<double>(i);
      if (i != first && left >= to) break;
      const double right = std::min(left + 1, width_);
      const double shared =
          std::max(0.0, std::min(to, right) - std::max(from, left));
      Put(i, shared, value);
    }
  }
  Curve Take() { return std::move(curve_); }

 private:
  void Put(std::size_t column, double shared, double value) {
    Sample& sample = curve_[column];
    if (!sample.known) sample = {value, value, value, true};
    sample.least = std::min(sample.least, value);
    sample.most = std::max(sample.most, value);
    double& covered = covered_[column];
    covered += shared;
    if (covered > 0) sample.mean += (value - sample.mean) * shared / covered;
  }

  double width_;
  Curve curve_;
  std::vector<double> covered_;  // pixels of each column
};

void DrawCurves(const std::vector<Counters>& counters, const Across& across,
                Layout& layout) {
  const double width = layout.options.width;
  CurveMaker live(width), regions(width), fewest(width), fragmentation(width);
  Totals& totals = layout.totals;
  double used = 0;  // pixels in which anything is live
  for (std::size_t i = 0; i < counters.size(); ++i) {
    const Counters& now = counters[i];
    const double from = across.At(i);
    const double to = across.At(i + 1);
    live.Add(from, to, static_cast<double>(now.live_pages << kPageShift));
    regions.Add(from, to, static_cast<double>(now.regions));
    fewest.Add(from, to, static_cast<double>(now.fewest_regions()));
    totals.peak_live_pages = std::max(totals.peak_live_pages, now.live_pages);
    totals.peak_regions = std::max(totals.peak_regions, now.regions);
    if (now.regions == 0) continue;
    fragmentation.Add(from, to, now.fragmentation());
    used += to - from;
    totals.mean_regions += (to - from) * static_cast<double>(now.regions);
    totals.mean_fragmentation += (to - from) * now.fragmentation();
  }
  if (used > 0) {
    totals.mean_regions /= used;
    totals.mean_fragmentation /= used;
  }
  layout.live_bytes = live.Take();
  layout.regions_in_use = regions.Take();
  layout.fewest_regions = fewest.Take();
  layout.fragmentation = fragmentation.Take();
}

}  // namespace

Layout LayOut(const History& history, const LayoutOptions& options) {
  Layout layout;
  layout.options = options;
  const Across across(history, options);
  const Down down(history, options.height);
  layout.span = across.span();
  layout.origin = across.origin();
  layout.row_height = down.row_height();
  layout.height = down.height();
  layout.regions = down.Rows();
  std::vector<Box> boxes = AllBoxes(history, across, down);
  LargestFirst(boxes, options.max_boxes);
  const std::size_t alone = std::min(options.max_boxes, boxes.size());
  layout.raster = Merge(layout, history, std::span(boxes).subspan(alone));
  boxes.resize(alone);
  layout.boxes = std::move(boxes);
  DrawCurves(CountersAfterEachStep(history), across, layout);
  layout.totals.live_at_end = static_cast<std::size_t>(
      std::count_if(history.ranges.begin(), history.ranges.end(),
                    [](const HeldRange& range) { return !range.freed; }));
  return layout;
}

}  // namespace dmamap::address_map
