// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_BOUNCE_H_
#define DMAMAP_BOUNCE_BOUNCE_H_

// Bounce: pages that the device sees in place of the real buffer.
//
// The I/O address space [0, size) is divided into slots (the unit that an
// allocator hands out) and pages (the unit of memory; one slot or more). A
// mapping owns whole slots; its *body*, the bytes of the buffer, lies somewhere
// in them, and what is left in front of it and behind it is padding:
//
//   slots   |................|................|      one BounceBuffer
//   body        |=====================|
//           pad                        pad           zero for the device
//
// A page is allocated when a device first touches it (zeroed, then filled by
// the embedder from each mapping on it, then published) and is kept for later
// mappings. So Fill, which a new mapping calls, overwrites every byte of its
// slots on the pages that are there (guarantees 1, 3); what is on no page yet
// is filled when the page comes. Drain copies back the body alone.
//
// With one slot a page, a page is never shared: whatever the device can see
// beside a buffer is zero. With larger pages, mappings of the same table share.
//
// Thread-safe as far as each slot is used by one owner at a time; Claim and
// Reclaim may race (page_table.h). Copies block only in the MemoryAccess.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "bounce/copy.h"
#include "bounce/memory_access.h"
#include "bounce/page_source.h"
#include "bounce/page_table.h"
#include "dma/address.h"
#include "dma/assert.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

// What the body of a fresh mapping holds before the device writes to it.
enum class BounceFill : std::uint8_t {
  kOriginal,  // the bytes of the buffer
  kZero,      // zeros: the caller opted out, and still nobody's bytes are shown
};

// The rule for Map (guarantee 2): the original is copied in, for kFromDevice
// too, unless the caller said that it syncs by hand or that the device
// overwrites all of it.
constexpr BounceFill FillFor(Direction direction, MapAttributes attributes) {
  const bool overwritten = direction == Direction::kFromDevice &&
                           Has(attributes, MapAttributes::kDeviceOverwritesAll);
  return overwritten || Has(attributes, MapAttributes::kSkipSync)
             ? BounceFill::kZero
             : BounceFill::kOriginal;
}

// The rule for Unmap: only what a device was allowed to write comes back.
constexpr bool DrainsFor(Direction direction, MapAttributes attributes) {
  return DeviceWrites(direction) && !Has(attributes, MapAttributes::kSkipSync);
}

// One mapping, as its bounce pages see it.
struct BounceBuffer {
  Range slots;      // whole slots
  Range body;       // inside `slots`
  PhysAddr buffer;  // where body.first() comes from
  BounceFill fill = BounceFill::kOriginal;
};

struct BounceOptions {
  std::uint64_t size = 0;  // bytes from I/O address 0; whole pages, not 0
  PageSize page = PageSize();
  PageSize slot = PageSize();  // at most a page
};

template <PageSource Source, MemoryAccess Memory,
          template <class> class Atom = std::atomic>
class Bounce {
 public:
  Bounce(Source& source, Memory& memory) : table_(source), memory_(memory) {}

  // kInvalidArgument for a size that is 0 or not whole pages, or a slot larger
  // than a page or smaller than 2 bytes. kBusy the second time.
  Result<void> Init(const BounceOptions& options) {
    if (options.size == 0 || !options.page.IsAligned(options.size) ||
        options.slot.shift() > options.page.shift() ||
        options.slot.shift() == 0) {
      return Error::kInvalidArgument;
    }
    const auto r =
        table_.Init(options.page, options.size >> options.page.shift());
    if (r.ok()) slot_ = options.slot;
    return r;
  }

  PageSize page() const { return table_.page(); }
  bool shares_pages() const { return slot_ != page(); }

  // Keeps the pages of `slots` from being reclaimed, there or not yet there.
  // kNoMemory, kOutOfRange; then nothing is claimed.
  Result<void> Claim(Range slots) {
    const std::uint64_t first = page().Number(slots.first());
    const std::uint64_t last = page().Number(slots.last());
    if (const auto r = table_.Prepare(first, last); !r.ok()) return r;
    for (std::uint64_t i = first; i <= last; ++i) table_.Claim(i);
    return Ok();
  }
  // REQUIRES: Claim(slots) succeeded.
  void Release(Range slots) {
    const std::uint64_t last = page().Number(slots.last());
    for (std::uint64_t i = page().Number(slots.first()); i <= last; ++i) {
      table_.Release(i);
    }
  }

  // The page that holds `at`, or nullptr; its range of I/O addresses.
  std::byte* PageAt(Iova at) const { return table_.Find(page().Number(at)); }
  Range PageRange(Iova at) const {
    return Range::Byte(at).RoundOutToPages(page());
  }

  // Overwrites each byte of the slots on every page that is there.
  // kUnsupported when memory cannot be reached: call Scrub before letting go.
  // Adds the bytes copied to `*bytes` (so do all the calls that take it).
  Result<void> Fill(const BounceBuffer& b, std::uint64_t* bytes) {
    return ForEachPage(b.slots, [&](Range part, std::byte* page_data) {
      return FillPart(page_data, part, b, bytes);
    });
  }

  // The same for one page, which need not be published: the bytes of `b` that
  // lie on the page of `page_range`, whose memory is `page_data`.
  Result<void> FillPage(std::byte* page_data, Range page_range,
                        const BounceBuffer& b, std::uint64_t* bytes) {
    const Result<Range> part = b.slots.Intersect(page_range);
    if (!part.ok()) return Ok();
    return FillPart(page_data, *part, b, bytes);
  }

  // Zeros every byte of `slots` on the pages that are there.
  void Scrub(Range slots) {
    (void)ForEachPage(slots, [&](Range part, std::byte* page_data) {
      Zero(page_data, part);
      return Ok();
    }).ok();
  }

  // Copies buffer to pages (CopyIn) or pages to buffer (CopyOut) for `part`,
  // whose first byte is at `buffer`; skips pages that are not there, since no
  // device ever saw them.
  Result<void> CopyIn(Range part, PhysAddr buffer, std::uint64_t* bytes) {
    return ForEachPage(part, [&](Range piece, std::byte* page_data) {
      *bytes += piece.size();
      return CopyFromMemory(memory_, buffer + (piece.first() - part.first()),
                            At(page_data, piece.first()), Size(piece));
    });
  }
  Result<void> CopyOut(Range part, PhysAddr buffer, std::uint64_t* bytes) {
    return ForEachPage(part, [&](Range piece, std::byte* page_data) {
      *bytes += piece.size();
      return CopyToMemory(memory_, buffer + (piece.first() - part.first()),
                          At(page_data, piece.first()), Size(piece));
    });
  }

  // A page for `at` in three steps, so that it is complete before it is seen:
  // NewPage (zeroed), FillPage for each mapping on it, Publish. Publish returns
  // the page that is there now; when that is another, Discard yours. REQUIRES
  // for Publish: the page is claimed.
  Result<std::byte*> NewPage() { return table_.NewPage(); }
  void Discard(std::byte* page_data) { table_.Discard(page_data); }
  std::byte* Publish(Iova at, std::byte* page_data) {
    return table_.Publish(page().Number(at), page_data);
  }

  // Gives the pages of `pages` back. kBusy while one of them is claimed;
  // kOutOfRange beyond the table; kInvalidArgument unless whole pages.
  Result<std::uint64_t> Reclaim(Range pages) {
    if (!pages.IsPageAligned(page())) return Error::kInvalidArgument;
    return table_.Reclaim(page().Number(pages.first()),
                          page().Number(pages.last()));
  }
  // Gives back every page that is not claimed; how many.
  std::uint64_t ReclaimIdle() { return table_.ReclaimIdle(); }

  // f(range of the page, memory or nullptr, claims), where either is there.
  template <class F>
  void ForEach(F&& f) const {
    table_.ForEach(
        [&](std::uint64_t index, std::byte* data, std::uint64_t claims) {
          f(PageRange(Iova(index << page().shift())), data, claims);
        });
  }

  // REQUIRES: nobody changes claims meanwhile. Each page is aligned, and no
  // entry holds more claims than it has slots.
  bool CheckInvariants() const {
    const std::uint64_t most = page().bytes() >> slot_.shift();
    bool good = true;
    ForEach([&](Range, std::byte* data, std::uint64_t claims) {
      good =
          good && claims <= most && page().IsAligned(PhysAddrOf(data).value());
    });
    return good;
  }

 private:
  static std::size_t Size(Range r) {
    return static_cast<std::size_t>(r.size());
  }
  std::byte* At(std::byte* page_data, Iova at) const {
    return page_data + page().Offset(at.value());
  }
  void Zero(std::byte* page_data, Range r) const {
    std::memset(At(page_data, r.first()), 0, Size(r));
  }

  // Overwrites all of `part` (on one page): padding with zeros, body as asked.
  Result<void> FillPart(std::byte* page_data, Range part, const BounceBuffer& b,
                        std::uint64_t* bytes) {
    const Result<Range> body = part.Intersect(b.body);
    if (!body.ok() || b.fill == BounceFill::kZero) {
      Zero(page_data, part);
      return Ok();
    }
    if (part.first() < body->first()) {
      Zero(page_data, part.SplitAt(body->first())->first);
    }
    if (body->last() < part.last()) {
      Zero(page_data, part.SplitAt(body->last() + 1)->second);
    }
    *bytes += body->size();
    return CopyFromMemory(memory_, b.buffer + (body->first() - b.body.first()),
                          At(page_data, body->first()), Size(*body));
  }

  // f(part on one page, the page's memory) -> Result<void> for each page of
  // `range` that is there; ends at the first error.
  template <class F>
  Result<void> ForEachPage(Range range, F&& f) {
    const std::uint64_t last = page().Number(range.last());
    for (std::uint64_t i = page().Number(range.first()); i <= last; ++i) {
      std::byte* const data = table_.Find(i);
      if (data == nullptr) continue;
      const Range whole = PageRange(Iova(i << page().shift()));
      if (const Result<void> r = f(*range.Intersect(whole), data); !r.ok()) {
        return r;
      }
    }
    return Ok();
  }

  BouncePageTable<Source, Atom> table_;
  Memory& memory_;
  PageSize slot_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_BOUNCE_BOUNCE_H_
