// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TOOLS_ADDRESS_MAP_PICTURE_H_
#define DMAMAP_TOOLS_ADDRESS_MAP_PICTURE_H_

// The picture: a heading with the totals and the legend, the address space over
// time, three curves on the same axis, and what a reader must know (what was
// merged, what is missing). One SVG without scripts, fonts or anything else
// from outside; it follows the reader's light or dark colours.

#include <cstddef>
#include <string>
#include <vector>

#include "tools/address_map/layout.h"
#include "tools/address_map/replay.h"

namespace dmamap::address_map {

// With the bounds that LayoutOptions has by default and a width of at most
// kMostWidth a picture is smaller than this, whatever the trace.
inline constexpr std::size_t kMostBytes = std::size_t{5} << 20;
inline constexpr double kMostWidth = 4000;

struct Caption {
  std::string trace;      // its name
  std::string addresses;  // where they come from
  std::vector<std::string> holders;
  std::vector<std::string> notes;
};

std::string Draw(const History& history, const Layout& layout,
                 const Caption& caption);

// The totals in one line, as the heading has them.
std::string TotalsLine(const History& history, const Layout& layout);

}  // namespace dmamap::address_map

#endif  // DMAMAP_TOOLS_ADDRESS_MAP_PICTURE_H_
