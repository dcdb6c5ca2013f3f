// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_IOMMU_SLOT_H_
#define DMAMAP_DOMAIN_IOMMU_SLOT_H_

// What a mapping behind an IOMMU looks like: which of its pages are the
// buffer's own, which are bounce pages, and where those are. An inner header.
//
//   kNothing   |....====|========|====....|   the buffer's pages, whole
//   kEnds      |0000====|========|====0000|   head: bounce; whole pages of the
//               bounce    buffer   bounce     buffer; tail: bounce
//   kAll       |0000====|========|====0000|   bounce pages, side by side
//
// The I/O address has the buffer's offset in its page, whatever is covered.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "bounce/slot.h"
#include "dma/address.h"
#include "dma/atom.h"
#include "dma/sync.h"
#include "dma/version.h"

namespace dmamap::inline v0 {
namespace internal {

// What of a buffer the device sees through bounce pages.
enum class Cover : std::uint8_t { kNothing, kEnds, kAll };

// Two records: of the mapping that begins on this page, and, in the second
// line, of the reservation that does.
template <template <class> class Atom = std::atomic>
struct alignas(kCacheLine) IommuSlot {
  Atom<std::uint64_t> word{0};    // SlotWord of the mapping
  Atom<std::uint64_t> size{0};    // bytes of its body
  Atom<std::uint64_t> buffer{0};  // PhysAddr of the body's first byte
  Atom<std::uint64_t> shape{0};   // SlotShape
  // 0: the mapping owns its address. Else it is a link, so many pages less one
  // behind its reservation's first.
  Atom<std::uint64_t> linked{0};
  // Bounce pages, or null. Who has the word has them.
  PlainFor<Atom, std::byte*> head{nullptr};  // kEnds: one page; kAll: all
  PlainFor<Atom, std::byte*> tail{nullptr};  // kEnds: one page

  alignas(kCacheLine) Atom<std::uint64_t> held{0};  // SlotWord; a pin each link
  Atom<std::uint64_t> held_size{0};                 // bytes
  Atom<std::uint64_t> held_head{0};  // bytes of the page in front of it
};

struct IommuPart {
  Range pages;
  bool bounced = false;
  bool at_tail = false;  // on IommuSlot::tail, else head
};

// The parts of one mapping, in order, without a gap.
class IommuLayout {
 public:
  IommuLayout(Cover cover, PageSize page, Range body)
      : pages_(body.RoundOutToPages(page)) {
    const bool head = !page.IsAligned(body.first().value());
    const bool tail = page.Offset(body.last().value()) != page.mask();
    const bool ends = cover == Cover::kEnds && (head || tail);
    const bool one = pages_.first() == LastPage(page).first();
    if (!ends || one) {
      Add(pages_, ends || cover == Cover::kAll, false);
      return;
    }
    const Range first = Range::Byte(pages_.first()).RoundOutToPages(page);
    const Range last = LastPage(page);
    if (head) Add(first, true, false);
    const Iova begin = head ? first.last() + 1 : pages_.first();
    const Iova end = tail ? last.first() - 1 : pages_.last();
    const auto middle = Range::FromFirstLast(begin, end);
    if (middle.ok()) Add(*middle, false, false);
    if (tail) Add(last, true, true);
  }

  std::span<const IommuPart> parts() const {
    return std::span(parts_).first(count_);
  }
  Range pages() const { return pages_; }

 private:
  Range LastPage(PageSize page) const {
    return Range::Byte(pages_.last()).RoundOutToPages(page);
  }
  void Add(Range pages, bool bounced, bool at_tail) {
    parts_[count_++] = {pages, bounced, at_tail};
  }

  Range pages_;
  std::array<IommuPart, 3> parts_;
  std::size_t count_ = 0;
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_IOMMU_SLOT_H_
