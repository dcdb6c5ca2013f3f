// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_PEERS_MODEL_FOR_TEST_H_
#define DMAMAP_IOVA_PEERS_MODEL_FOR_TEST_H_

// How other allocators hand out I/O addresses, each in a small model with the
// fault that their users met, so that a test of that fault can be shown to fail
// on it. Written from reports, commit messages and the behaviour of the
// programs; single-threaded; 4 KiB pages; the interface is IovaAllocator's as
// far as the tests ask for it.
//
//   LinuxModel     drivers/iommu/iova.c: magazines for each CPU over a depot
//                  over a tree of the ranges in use, searched from the top down
//                  one range after the other. One fault at a time; with kNone
//                  only the search is slow.
//   FirstFitModel  QEMU's iova-tree: the ranges in use, searched from the
//                  bottom up. Knows limits, and neither guards nor boundaries.
//   BumpModel      the next address, and no free (libvfn, libevpl, ixy); with a
//                  base of its own, whatever the IOMMU can reach (unvme).
//   GrainModel     whole 2 MiB at a time (SPDK's memory map).

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "dma/address.h"
#include "dma/cpu.h"
#include "dma/result.h"
#include "dma/version.h"
#include "iova/allocator_options.h"
#include "iova/constraints.h"
#include "iova/stats.h"

namespace dmamap::inline v0 {

inline std::uint64_t ModelPage(Iova a) { return a.value() >> 12; }
inline Iova ModelAddress(std::uint64_t page) { return Iova(page << 12); }

enum class LinuxFault : std::uint8_t {
  kNone,
  kBelievesFrees,       // whatever is freed enters the cache
  kLooksAtTheTopAlone,  // of a magazine, under a limit
  kOneHint,             // a refusal under one 32-bit limit stands for all
  kDepotWithoutBound,   // what is freed elsewhere stays cached
  kMagazinesInAdvance,  // two for each CPU and size, used or not
};

template <LinuxFault kFault>
class LinuxModel {
 public:
  static constexpr unsigned kClasses = 6;
  static constexpr std::size_t kEntries = 127;
  static constexpr std::uint64_t kMagazineBytes = 1024;
  using Stats = BasicAllocatorStats<kClasses>;

  explicit LinuxModel(std::size_t slots) : cpu_(slots), bins_(slots) {}

  Result<void> Init(const AllocatorOptions& options) {
    first_ = ModelPage(options.window.first());
    last_ = ModelPage(options.window.last());
    free_pages_ = last_ - first_ + 1;
    depot_limit_ = kFault == LinuxFault::kDepotWithoutBound
                       ? std::numeric_limits<std::size_t>::max()
                       : options.depot_limit;
    return Ok();
  }

  Result<Iova> Allocate(std::uint64_t pages, const Constraints& c = {}) {
    const std::uint64_t last = std::min(last_, ModelPage(c.limit));
    const unsigned size_class = ClassOf(pages);
    std::uint64_t page = 0;
    if (size_class < kClasses) {
      pages = std::uint64_t{1} << size_class;
      if (FromCache(size_class, last - (pages - 1), page)) {
        return ModelAddress(page);
      }
    }
    if (FromTree(pages, last, page)) return ModelAddress(page);
    Trim();
    if (FromTree(pages, last, page)) return ModelAddress(page);
    ++refusals_;
    return Error::kNoSpace;
  }

  Result<void> Free(Iova first, std::uint64_t pages) {
    const std::uint64_t page = ModelPage(first);
    const unsigned size_class = ClassOf(pages);
    if constexpr (kFault != LinuxFault::kBelievesFrees) {
      const auto range = ranges_.find(page);
      if (range == ranges_.end()) return Error::kForeign;
      if (cached_.contains(page)) return Error::kDoubleFree;
      const std::uint64_t held =
          size_class < kClasses ? std::uint64_t{1} << size_class : pages;
      if (range->second != held) return Error::kMismatch;
    }
    if (size_class < kClasses) {
      ToCache(size_class, page);
    } else {
      ToTree(page);
    }
    return Ok();
  }

  // All caches into the tree.
  void Trim() {
    for (auto& bins : bins_) {
      for (Bin& bin : bins) {
        Empty(bin.loaded);
        Empty(bin.previous);
      }
    }
    for (auto& depot : depot_) {
      for (Magazine& magazine : depot) Empty(magazine);
      depot.clear();
    }
  }

  Stats stats() const {
    Stats s;
    for (unsigned c = 0; c < kClasses; ++c) {
      std::uint64_t n = depot_[c].size() * kEntries;
      for (const auto& bins : bins_) {
        n += bins[c].loaded.size() + bins[c].previous.size();
        const bool used = bins[c].used;
        if (used || kFault == LinuxFault::kMagazinesInAdvance) {
          s.cache_bytes += 2 * kMagazineBytes;
        }
      }
      s.cache_bytes += depot_[c].size() * kMagazineBytes;
      s.size_class[c].cached = n;
      s.cached += n;
    }
    s.refusals = refusals_;
    s.free_pages = free_pages_;
    return s;
  }
  // Nothing came out of a cache that was no range: where Linux said BUG.
  bool CheckInvariants() const { return unknown_ == 0; }
  FakeCpu& cpu() { return cpu_; }

 private:
  using Magazine = std::vector<std::uint64_t>;  // first pages
  struct Bin {
    Magazine loaded;
    Magazine previous;
    bool used = false;
  };

  static unsigned ClassOf(std::uint64_t pages) {
    return static_cast<unsigned>(std::bit_width(pages - 1));
  }
  Bin& BinOf(unsigned size_class) {
    const std::size_t slot = cpu_.Acquire();
    cpu_.Release(slot);
    Bin& bin = bins_[slot][size_class];
    bin.used = true;
    return bin;
  }

  bool FromCache(unsigned size_class, std::uint64_t most, std::uint64_t& page) {
    Bin& bin = BinOf(size_class);
    if (bin.loaded.empty()) std::swap(bin.loaded, bin.previous);
    if (bin.loaded.empty() && !depot_[size_class].empty()) {
      bin.loaded = std::move(depot_[size_class].back());
      depot_[size_class].pop_back();
    }
    Magazine& m = bin.loaded;
    for (std::size_t i = m.size(); i-- > 0;) {
      if (m[i] <= most) {
        page = std::exchange(m[i], m.back());
        m.pop_back();
        cached_.erase(page);
        return true;
      }
      if (kFault == LinuxFault::kLooksAtTheTopAlone) break;
    }
    return false;
  }
  void ToCache(unsigned size_class, std::uint64_t page) {
    Bin& bin = BinOf(size_class);
    if (bin.loaded.size() == kEntries) std::swap(bin.loaded, bin.previous);
    if (bin.loaded.size() == kEntries) {
      Magazine full = std::move(bin.loaded);
      bin.loaded.clear();
      if (depot_[size_class].size() < depot_limit_) {
        depot_[size_class].push_back(std::move(full));
      } else {
        Empty(full);
      }
    }
    bin.loaded.push_back(page);
    cached_.insert(page);
  }
  void Empty(Magazine& magazine) {
    for (const std::uint64_t page : magazine) {
      cached_.erase(page);
      ToTree(page);
    }
    magazine.clear();
  }

  // Aligned to its size, the highest place at or below `last`; from where the
  // last search ended, and if there is none from the top.
  bool FromTree(std::uint64_t pages, std::uint64_t last, std::uint64_t& page) {
    const bool is_32_bit = last < std::uint64_t{1} << 20;
    if (kFault == LinuxFault::kOneHint && is_32_bit && pages >= refused_) {
      return false;
    }
    const bool found =
        (last == last_ && Search(pages, std::min(last, below_), page)) ||
        Search(pages, last, page);
    if (!found) {
      if (is_32_bit) refused_ = std::min(refused_, pages);
      return false;
    }
    ranges_[page] = pages;
    free_pages_ -= pages;
    if (last == last_) below_ = page;
    return true;
  }
  bool Search(std::uint64_t pages, std::uint64_t last,
              std::uint64_t& page) const {
    std::uint64_t end = last + 1;
    auto next = ranges_.upper_bound(last);
    for (;;) {
      const bool lowest = next == ranges_.begin();
      std::uint64_t from = first_;
      if (!lowest) {
        --next;
        from = next->first + next->second;
      }
      if (end >= pages) {
        page = (end - pages) & ~(std::bit_ceil(pages) - 1);
        if (page >= from) return true;
      }
      if (lowest) return false;
      end = std::min(end, next->first);
    }
  }
  void ToTree(std::uint64_t page) {
    const auto range = ranges_.find(page);
    if (range == ranges_.end()) {
      ++unknown_;
      return;
    }
    if (page >= below_) below_ = page + range->second;
    free_pages_ += range->second;
    ranges_.erase(range);
    refused_ = std::numeric_limits<std::uint64_t>::max();
  }

  FakeCpu cpu_;
  std::uint64_t first_ = 0;
  std::uint64_t last_ = 0;
  std::size_t depot_limit_ = 0;
  std::vector<std::array<Bin, kClasses>> bins_;  // by CPU
  std::array<std::vector<Magazine>, kClasses> depot_;
  std::map<std::uint64_t, std::uint64_t> ranges_;  // first page, pages
  std::set<std::uint64_t> cached_;                 // of these
  std::uint64_t below_ = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t refused_ = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t free_pages_ = 0;
  std::uint64_t refusals_ = 0;
  std::uint64_t unknown_ = 0;
};

class FirstFitModel {
 public:
  explicit FirstFitModel(std::size_t) {}
  Result<void> Init(const AllocatorOptions& options) {
    first_ = ModelPage(options.window.first());
    last_ = ModelPage(options.window.last());
    return Ok();
  }
  Result<Iova> Allocate(std::uint64_t pages, const Constraints& c = {}) {
    const std::uint64_t last = std::min(last_, ModelPage(c.limit));
    std::uint64_t page = first_;
    for (const auto& [first, count] : ranges_) {
      if (first - page >= pages) break;
      page = first + count;
    }
    if (page > last || last - page < pages - 1) return Error::kNoSpace;
    ranges_[page] = pages;
    return ModelAddress(page);
  }
  Result<void> Free(Iova first, std::uint64_t pages) {
    const auto range = ranges_.find(ModelPage(first));
    if (range == ranges_.end()) return Error::kForeign;
    if (range->second != pages) return Error::kMismatch;
    ranges_.erase(range);
    return Ok();
  }
  void Trim() {}

 private:
  std::uint64_t first_ = 0;
  std::uint64_t last_ = 0;
  std::map<std::uint64_t, std::uint64_t> ranges_;  // first page, pages
};

template <std::uint64_t kBase = 0>
class BumpModel {
 public:
  explicit BumpModel(std::size_t) {}
  Result<void> Init(const AllocatorOptions& options) {
    next_ = std::max(kBase, ModelPage(options.window.first()));
    last_ = ModelPage(options.window.last());
    return Ok();
  }
  Result<Iova> Allocate(std::uint64_t pages, const Constraints& = {}) {
    if (next_ > last_ || last_ - next_ < pages - 1) return Error::kNoSpace;
    return ModelAddress(std::exchange(next_, next_ + pages));
  }
  Result<void> Free(Iova, std::uint64_t) { return Ok(); }
  void Trim() {}

 private:
  std::uint64_t next_ = 0;
  std::uint64_t last_ = 0;
};

class GrainModel : public FirstFitModel {
 public:
  using FirstFitModel::FirstFitModel;
  Result<Iova> Allocate(std::uint64_t pages, const Constraints& c = {}) {
    return FirstFitModel::Allocate(Whole(pages), c);
  }
  Result<void> Free(Iova first, std::uint64_t pages) {
    return FirstFitModel::Free(first, Whole(pages));
  }

 private:
  static std::uint64_t Whole(std::uint64_t pages) {
    return (pages + 511) & ~std::uint64_t{511};
  }
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_PEERS_MODEL_FOR_TEST_H_
