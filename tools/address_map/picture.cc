// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "tools/address_map/picture.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "tools/address_map/svg.h"

namespace dmamap::address_map {
namespace {

// In pixels.
constexpr double kLeft = 100;  // for the labels
constexpr double kRight = 20;
constexpr double kTop = 86;    // for heading and legend
constexpr double kCurve = 90;  // height of one
constexpr double kGap = 34;    // above each curve, for its name
constexpr double kLine = 16;   // of text
constexpr double kNarrowestRowWithLine = 3;
constexpr double kNarrowestTextLine = 12;

// Mid tones that stand out from white and from near black; h0 is the first
// holder. After Paul Tol's "bright" scheme, which the colour-blind can tell
// apart.
constexpr absl::string_view kStyle = R"(
svg { background: #ffffff; font: 12px sans-serif; }
text { fill: #1f2328; }
.paper { fill: #ffffff; }
.head { font-size: 16px; font-weight: bold; }
.soft { fill: #59636e; }
.end { text-anchor: end; }
.mid { text-anchor: middle; }
.plot { fill: #f3f4f6; }
.line { stroke: #8c959f; stroke-width: 0.5; fill: none; }
.gap { stroke: #59636e; stroke-width: 1.5; stroke-dasharray: 6 3; fill: none; }
.curve { stroke: #1f2328; stroke-width: 1; fill: none; }
.band { fill: #8c959f; fill-opacity: 0.5; }
.least { stroke: #228833; stroke-width: 1; stroke-dasharray: 3 2; fill: none; }
.raster { shape-rendering: crispEdges; }
.h0 { fill: #4477aa; } .h1 { fill: #ee6677; } .h2 { fill: #228833; }
.h3 { fill: #ccbb44; } .h4 { fill: #66ccee; } .h5 { fill: #aa3377; }
.h6 { fill: #999999; }
.s1 { fill-opacity: 0.25; } .s2 { fill-opacity: 0.5; }
.s3 { fill-opacity: 0.75; }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117; }
  text { fill: #e6edf3; }
  .paper { fill: #0d1117; }
  .soft { fill: #9198a1; }
  .plot { fill: #1b212a; }
  .gap { stroke: #9198a1; }
  .curve { stroke: #e6edf3; }
  .least { stroke: #3fb950; }
}
)";
constexpr std::size_t kColours = 7;

std::string Bytes(double bytes) {
  constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB",
                                                 "TiB"};
  std::size_t unit = 0;
  for (; bytes >= 1024 && unit + 1 < kUnits.size(); ++unit) bytes /= 1024;
  return absl::StrCat(Number(bytes), " ", kUnits[unit]);
}
std::string PageBytes(std::uint64_t pages) {
  return Bytes(std::ldexp(static_cast<double>(pages), kPageShift));
}
std::string Plural(std::uint64_t n, absl::string_view thing) {
  return absl::StrCat(n, " ", thing, n == 1 ? "" : "s");
}
std::string Count(double count) { return Number(count); }
std::string Percent(double share) {
  return absl::StrFormat("%.1f %%", 100 * share);
}
std::string Seconds(double us) {
  if (us < 1000) return absl::StrCat(Number(us), " us");
  if (us < 1e6) return absl::StrCat(Number(us / 1e3), " ms");
  return absl::StrCat(Number(us / 1e6), " s");
}

// 1, 2 or 5 times a power of ten: about `count` of them up to `span`.
double NiceStep(double span, double count) {
  const double rough = span / count;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough) return factor * power;
  }
  return 10 * power;
}

std::string TooltipOf(const HeldRange& range, const Caption& caption) {
  std::string text = absl::StrFormat(
      "%#x - %#x\n%s, %s\nallocated at step %d, %s\n",
      range.first << kPageShift,
      (range.last() << kPageShift) | ((std::uint64_t{1} << kPageShift) - 1),
      Plural(range.pages, "page"), caption.holders[range.holder], range.begin,
      Seconds(static_cast<double>(range.begin_us)));
  const std::size_t steps = range.end - range.begin;
  const auto us = static_cast<double>(range.end_us - range.begin_us);
  if (range.freed) {
    absl::StrAppendFormat(&text, "freed at step %d, %s\nheld for %s, %s",
                          range.end, Seconds(static_cast<double>(range.end_us)),
                          Plural(steps, "step"), Seconds(us));
  } else {
    absl::StrAppendFormat(&text, "not freed: held for at least %s, %s",
                          Plural(steps, "step"), Seconds(us));
  }
  return text;
}

class Picture {
 public:
  Picture(const History& history, const Layout& layout, const Caption& caption)
      : history_(history), layout_(layout), caption_(caption) {}

  std::string Draw() {
    const double plot = layout_.options.width;
    const double curves = kTop + layout_.height;
    const double below = curves + 3 * (kGap + kCurve);
    const std::vector<std::string> notes = Notes();
    const double height =
        below + 3 * kLine + kLine * static_cast<double>(notes.size());
    const double width = kLeft + plot + kRight;
    svg_.Open("svg", {{"xmlns", "http://www.w3.org/2000/svg"},
                      {"width", Number(width)},
                      {"height", Number(height)},
                      {"viewBox", absl::StrCat("0 0 ", Number(width), " ",
                                               Number(height))}});
    svg_.Text("title", {},
              absl::StrCat("I/O address space of ", caption_.trace));
    svg_.Text("style", {}, kStyle);
    svg_.Leaf("rect", {{"class", "paper"},
                       {"width", Number(width)},
                       {"height", Number(height)}});
    DrawHeading();
    Place(kLeft, kTop, [&] { DrawSpace(); });
    DrawCurve(0, "live bytes", layout_.live_bytes, nullptr,
              MostOf(layout_.live_bytes), Bytes);
    DrawCurve(1,
              "2 MiB regions in use (green: the fewest that could hold the "
              "live bytes)",
              layout_.regions_in_use, &layout_.fewest_regions,
              MostOf(layout_.regions_in_use), Count);
    DrawCurve(2,
              "fragmentation: the share of the bytes in those regions that is "
              "not live",
              layout_.fragmentation, nullptr, /*most=*/1, Percent);
    Place(kLeft, below, [&] { DrawTimeLabels(); });
    for (std::size_t i = 0; i < notes.size(); ++i) {
      Label(kLeft, below + kLine * (3 + static_cast<double>(i)) - 4, "soft",
            notes[i]);
    }
    svg_.Close();
    return svg_.Take();
  }

 private:
  template <class Fn>
  void Place(double x, double y, Fn&& fn) {
    svg_.Open("g", {{"transform", absl::StrCat("translate(", Number(x), " ",
                                               Number(y), ")")}});
    fn();
    svg_.Close();
  }
  void Label(double x, double y, const char* style, absl::string_view text) {
    svg_.Text("text", {{"class", style}, {"x", Number(x)}, {"y", Number(y)}},
              text);
  }
  void Line(double x1, double y1, double x2, double y2, const char* style) {
    svg_.Leaf("line", {{"class", style},
                       {"x1", Number(x1)},
                       {"y1", Number(y1)},
                       {"x2", Number(x2)},
                       {"y2", Number(y2)}});
  }
  static std::string Colour(std::size_t holder) {
    return absl::StrCat("h", holder % kColours);
  }

  // --- Heading and legend.

  void DrawHeading() {
    Label(kLeft, 22, "head", caption_.trace);
    Label(kLeft, 42, "soft", caption_.addresses);
    Label(kLeft, 60, "", TotalsLine(history_, layout_));
    double x = kLeft;
    for (std::size_t i = 0; i < caption_.holders.size(); ++i) {
      const auto held = std::count_if(
          history_.ranges.begin(), history_.ranges.end(),
          [i](const HeldRange& range) { return range.holder == i; });
      if (held == 0) continue;
      svg_.Leaf("rect", {{"class", Colour(i)},
                         {"x", Number(x)},
                         {"y", "68"},
                         {"width", "11"},
                         {"height", "11"}});
      const std::string text =
          absl::StrCat(caption_.holders[i], " (", held, ")");
      Label(x + 15, 78, "", text);
      x += 35 + 6.5 * static_cast<double>(text.size());
    }
  }

  std::vector<std::string> Notes() const {
    std::vector<std::string> notes;
    const Raster& raster = layout_.raster;
    if (raster.ranges != 0) {
      notes.push_back(absl::StrFormat(
          "Merged: the %d ranges of the largest area are rectangles of their "
          "own; the %d others are a raster of squares of %s px in the colour "
          "of "
          "who held most of a square,",
          layout_.boxes.size(), raster.ranges, Number(raster.cell)));
      notes.push_back(
          "the stronger the more of it was held: up to a quarter, a half, "
          "three quarters, all.");
    }
    if (std::any_of(layout_.regions.begin(), layout_.regions.end(),
                    [](const RegionRow& row) { return row.gap_below; })) {
      notes.push_back(
          layout_.row_height >= kNarrowestRowWithLine
              ? "A dashed line: regions that were never touched are left out "
                "there."
              : "Regions that were never touched are left out between rows.");
    }
    for (const std::string& note : caption_.notes) notes.push_back(note);
    for (const std::string& note : history_.notes) notes.push_back(note);
    return notes;
  }

  // --- The address space.

  void DrawSpace() {
    DrawPlot(layout_.height);
    DrawRaster();
    DrawBoxes();
    DrawRegions();
  }

  void DrawPlot(double height) {
    svg_.Leaf("rect", {{"class", "plot"},
                       {"width", Number(layout_.options.width)},
                       {"height", Number(height)}});
  }

  void DrawBoxes() {
    svg_.Open("g", {{"id", "ranges"}});
    for (const Box& box : layout_.boxes) {
      const HeldRange& range = history_.ranges[box.range];
      svg_.Leaf("rect",
                {{"class", Colour(range.holder)},
                 {"x", Number(box.x)},
                 {"y", absl::StrFormat("%.3f", box.y)},
                 {"width", Number(box.width)},
                 {"height", absl::StrFormat("%.3f", box.height)}},
                TooltipOf(range, caption_));
    }
    svg_.Close();
  }

  // One path for all cells that look the same; a unit is a cell.
  void DrawRaster() {
    const Raster& raster = layout_.raster;
    if (raster.runs.empty()) return;
    std::map<std::pair<std::uint8_t, std::uint8_t>, std::string> paths;
    for (const CellRun& run : raster.runs) {
      absl::StrAppend(&paths[{run.holder, run.shade}], "M", run.column, " ",
                      run.row, "h", run.columns, "v1h-", run.columns, "z");
    }
    svg_.Open(
        "g", {{"id", "merged"},
              {"class", "raster"},
              {"transform", absl::StrCat("scale(", Number(raster.cell), ")")}});
    for (const auto& [look, path] : paths) {
      const auto& [holder, shade] = look;
      svg_.Leaf(
          "path",
          {{"class", absl::StrCat(Colour(holder), " s", shade)}, {"d", path}},
          absl::StrCat("merged ranges, most of it ", caption_.holders[holder],
                       "; held: up to ", 100 * shade / CellRun::kShades, " %"));
    }
    svg_.Close();
  }

  void DrawRegions() {
    const double width = layout_.options.width;
    const double row = layout_.row_height;
    double free_from = -kLine;  // labels do not overlap
    for (const RegionRow& region : layout_.regions) {
      const double bottom = region.top + row;
      if (row >= kNarrowestRowWithLine) {
        Line(-6, bottom, width, bottom, region.gap_below ? "gap" : "line");
      }
      if (bottom - kNarrowestTextLine < free_from) continue;
      free_from = bottom;
      Label(
          -8, bottom - 1, "end",
          absl::StrFormat("%#x", region.region << (kRegionShift + kPageShift)));
    }
    Line(0, 0, width, 0, "line");
  }

  // --- The curves.

  static double MostOf(const Curve& curve) {
    double most = 0;
    for (const Sample& sample : curve) most = std::max(most, sample.most);
    return most;
  }

  void DrawCurve(unsigned index, absl::string_view name, const Curve& curve,
                 const Curve* reference, double most,
                 const std::function<std::string(double)>& unit) {
    const double scale = most > 0 ? kCurve / most : 0;
    const double y = kTop + layout_.height + kGap + index * (kCurve + kGap);
    Place(kLeft, y, [&] {
      DrawPlot(kCurve);
      Label(0, -6, "", name);
      Label(-8, 9, "end soft", unit(most));
      Label(-8, kCurve, "end soft", unit(0));
      svg_.Leaf("path", {{"class", "band"}, {"d", BandOf(curve, scale)}});
      if (reference != nullptr) {
        svg_.Leaf("path",
                  {{"class", "least"}, {"d", MeanOf(*reference, scale)}});
      }
      svg_.Leaf("path", {{"class", "curve"}, {"d", MeanOf(curve, scale)}});
      Line(0, kCurve, layout_.options.width, kCurve, "line");
    });
  }

  static std::string Point(double column, double value, double scale) {
    return absl::StrCat(Number(column), " ", Number(kCurve - value * scale));
  }
  // Through the middle of each column; it breaks where nothing is known.
  static std::string MeanOf(const Curve& curve, double scale) {
    std::string path = "M0 0";
    bool pen_down = false;
    for (std::size_t i = 0; i < curve.size(); ++i) {
      if (curve[i].known) {
        absl::StrAppend(
            &path, pen_down ? "L" : "M",
            Point(static_cast<double>(i) + 0.5, curve[i].mean, scale));
        if (!pen_down) path += "h0.01";  // a column alone is a dot
      }
      pen_down = curve[i].known;
    }
    return path;
  }
  // From the most to the least of each column.
  static std::string BandOf(const Curve& curve, double scale) {
    std::string path = "M0 0";
    for (std::size_t i = 0; i < curve.size(); ++i) {
      const double top = kCurve - curve[i].most * scale;
      const double height = (curve[i].most - curve[i].least) * scale;
      if (height < 0.01) continue;
      absl::StrAppend(&path, "M", i, " ", Number(top), "h1v", Number(height),
                      "h-1z");
    }
    return path;
  }

  void DrawTimeLabels() {
    const bool by_step = layout_.options.axis == TimeAxis::kSteps;
    const double width = layout_.options.width;
    const double step =
        NiceStep(layout_.span, std::max(1.0, std::floor(width / 120)));
    for (double at = 0; at <= layout_.span; at += step) {
      const double x = at / layout_.span * width;
      Line(x, 0, x, 4, "line");
      Label(x, 16, "mid soft",
            by_step ? Count(at) : Seconds(layout_.origin + at));
    }
    Label(width, 30, "end soft",
          by_step ? "steps: allocations and frees so far"
                  : "time since the first event of the trace");
  }

  const History& history_;
  const Layout& layout_;
  const Caption& caption_;
  SvgWriter svg_;
};

}  // namespace

std::string TotalsLine(const History& history, const Layout& layout) {
  const Totals& totals = layout.totals;
  return absl::StrFormat(
      "%s, at most %s live; %s of 2 MiB touched, at most %d in use at once, %s "
      "on average; fragmentation %s on average; %s live at the end",
      Plural(history.ranges.size(), "range"), PageBytes(totals.peak_live_pages),
      Plural(layout.regions.size(), "region"), totals.peak_regions,
      Number(totals.mean_regions), Percent(totals.mean_fragmentation),
      Plural(totals.live_at_end, "range"));
}

std::string Draw(const History& history, const Layout& layout,
                 const Caption& caption) {
  return Picture(history, layout, caption).Draw();
}

}  // namespace dmamap::address_map
