// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SIM_VTD_H_
#define DMAMAP_TESTING_SIM_VTD_H_

// SimVtd: a VT-d remapping unit as unfriendly as its specification allows. It
// remembers for ever what it may: contexts, translations, and where the tables
// of the upper levels lie, and forgets what an invalidation names, no more.
// It reads tables and descriptors as hardware does, by bus address and without
// the CPU's caches: what was not written back it does not see.
//
//   SimTableMemory memory;             // a BusMemory; knows freed pages
//   SimVtd unit(&memory, {});
//   VtdUnit<SimVtd<>, SimTableMemory> driver;
//   driver.Init(&unit, &memory);
//   auto bus = unit.Translate(PciSource(0, 4, 0), iova, Permission::kWrite);
//
// Everything happens in the register access that asks for it. It shares no code
// with iommu/. For one thread at a time.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/version.h"
#include "iommu/fault_log.h"
#include "testing/sim_table_memory.h"

namespace dmamap::inline v0 {

struct SimVtdOptions {
  unsigned levels = 4;     // the most
  bool only_most = false;  // and no fewer
  bool large = true;
  bool snoops = false;  // as the memory
  bool caches_absent = false;
  bool page_selective = true;
  unsigned most_mask = 18;
  unsigned index_bits = 9;  // as the driver's policy
  std::uint32_t fault_records = 4;
};

template <class Memory = SimTableMemory>
class SimVtd {
 public:
  static constexpr std::uint32_t kFaultOffset = 0x220;

  SimVtd(Memory* memory, const SimVtdOptions& options)
      : memory_(memory), o_(options), faults_(options.fault_records) {}

  // What goes wrong from now on.
  bool mute = false;          // waits are not answered
  bool queue_error = false;   // the queue stops, and says so
  bool stuck_status = false;  // the global status does not change
  std::uint64_t bad_descriptors = 0;

  // --- The driver's side ---
  std::uint32_t Read32(std::uint32_t offset) {
    if (offset == 0x1c) return status_;
    if (offset == 0x34) return FaultStatus();
    return static_cast<std::uint32_t>(Read64(offset & ~7u) >> (offset & 4) * 8);
  }
  std::uint64_t Read64(std::uint32_t offset) {
    if (offset == 0x08) return Capability();
    if (offset == 0x10) return 2u | (o_.snoops ? 1u : 0u);
    if (offset == 0x80) return head_ << 4;
    if (IsFault(offset)) {
      const Fault& f = faults_[(offset - kFaultOffset) / 16];
      return (offset & 8) != 0 ? f.high : f.low;
    }
    return 0;
  }
  void Write32(std::uint32_t offset, std::uint32_t value) {
    if (offset == 0x18) Command(value);
    if (offset == 0x34 && (value & 1) != 0) overflow_ = false;
    if (offset == 0x34 && (value & 0x10) != 0) queue_failed_ = false;
    if (IsFault(offset) && (offset & 15) == 12 && value >> 31 != 0) {
      faults_[(offset - kFaultOffset) / 16] = {};
    }
  }
  void Write64(std::uint32_t offset, std::uint64_t value) {
    if (offset == 0x20) root_ = value;
    if (offset == 0x90) queue_ = value & ~std::uint64_t{0xfff};
    if (offset == 0x88) {
      tail_ = value >> 4 & 0xff;
      RunQueue();
    }
  }

  // --- The device's side ---
  // The bus address behind `at`; blocked and recorded otherwise. A translation
  // that is remembered is used.
  std::optional<PhysAddr> Translate(PciSource source, Iova at,
                                    Permission wanted) {
    if ((status_ >> 31) == 0) return PhysAddr(at.value());
    const Context context = ContextOf(source);
    if (!context.present) return Block(source, at, wanted, 2);
    if ((at.value() >> (Shift(context.levels) + o_.index_bits)) != 0) {
      return Block(source, at, wanted, 4);
    }
    const Hit hit = Find(context, at);
    if (!hit.present || !Allows(hit.permission, wanted)) {
      return Block(source, at, wanted, wanted == Permission::kWrite ? 5 : 6);
    }
    return PhysAddr(hit.bus + (at.value() & 0xfff));
  }
  // The same, remembering and using nothing. Not recorded.
  struct Hit {
    bool present = false;
    std::uint64_t bus = 0;  // of the page
    Permission permission = Permission::kNone;
    std::uint64_t first = 0;  // of the leaf
    std::uint64_t last = 0;
  };
  Hit Walk(PciSource source, Iova at) {
    const Context context = ReadContext(source);
    return context.present
               ? WalkFrom(context, at, context.levels, context.tables, false)
               : Hit{};
  }
  std::size_t remembered() const { return pages_.size() + tables_.size(); }
  void ForgetEverything() {
    pages_.clear();
    tables_.clear();
    contexts_.clear();
  }

 private:
  struct Context {
    bool present = false;
    std::uint64_t tables = 0;
    unsigned levels = 0;
    std::uint64_t domain = 0;
  };
  struct Fault {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
  };
  struct TableAt {
    std::uint64_t bus = 0;
    unsigned level = 0;  // of the slot that points to it
  };
  using Key = std::array<std::uint64_t, 3>;

  unsigned Shift(unsigned level) const {
    return 12 + o_.index_bits * (level - 1);
  }
  std::uint64_t Capability() const {
    const std::uint64_t widths = o_.levels == 3 ? 2 : (o_.only_most ? 4 : 6);
    const std::uint64_t bits = 12 + o_.index_bits * o_.levels;
    return 6 | (o_.caches_absent ? 1u << 7 : 0) | widths << 8 |
           (bits - 1) << 16 | std::uint64_t{kFaultOffset / 16} << 24 |
           (o_.large ? std::uint64_t{3} << 34 : 0) |
           (o_.page_selective ? std::uint64_t{1} << 39 : 0) |
           std::uint64_t{o_.fault_records - 1} << 40 |
           std::uint64_t{o_.most_mask} << 48 | std::uint64_t{3} << 54;
  }
  std::uint32_t FaultStatus() const {
    bool pending = false;
    for (const Fault& f : faults_) pending = pending || f.high >> 63 != 0;
    return (overflow_ ? 1u : 0u) | (pending ? 2u : 0u) |
           (queue_failed_ ? 0x10u : 0u) |
           static_cast<std::uint32_t>(first_fault_) << 8;
  }
  bool IsFault(std::uint32_t offset) const {
    return offset >= kFaultOffset &&
           offset < kFaultOffset + 16 * o_.fault_records;
  }
  std::optional<PhysAddr> Block(PciSource source, Iova at, Permission wanted,
                                std::uint64_t reason) {
    for (std::size_t i = 0; i < faults_.size(); ++i) {
      const std::size_t slot = (first_fault_ + i) % faults_.size();
      if (faults_[slot].high >> 63 != 0) continue;
      if (i == 0) first_fault_ = slot;
      faults_[slot] = {at.value() & ~std::uint64_t{0xfff},
                       std::uint64_t{1} << 63 |
                           std::uint64_t{wanted != Permission::kWrite} << 62 |
                           reason << 32 | source.id()};
      return std::nullopt;
    }
    overflow_ = true;
    return std::nullopt;
  }

  void Command(std::uint32_t value) {
    if (stuck_status) return;
    status_ = (status_ & 0x40000000u) | (value & 0x84000000u);
    if ((value & 0x40000000u) != 0) {
      latched_ = root_;
      status_ |= 0x40000000u;
    }
    if ((value & 0x04000000u) == 0) head_ = tail_ = 0;
  }

  void RunQueue() {
    if ((status_ & 0x04000000u) == 0 || queue_failed_) return;
    if (queue_error) {
      queue_failed_ = true;
      return;
    }
    for (; head_ != tail_; head_ = (head_ + 1) & 0xff) {
      Execute(memory_->Load(queue_ + head_ * 16),
              memory_->Load(queue_ + head_ * 16 + 8));
    }
  }
  void Execute(std::uint64_t low, std::uint64_t high) {
    const std::uint64_t domain = low >> 16 & 0xffff;
    const unsigned kind = low >> 4 & 3;
    if ((low & 15) == 1 && kind != 0) {
      std::erase_if(contexts_, [&](const auto& c) {
        return kind != 3 || c.first == (low >> 32 & 0xffff);
      });
    } else if ((low & 15) == 2 && kind == 3) {
      ForgetPages(domain, high & ~std::uint64_t{0xfff}, high & 63,
                  (high & 64) == 0);
    } else if ((low & 15) == 2 && kind != 0) {
      std::erase_if(pages_, [&](const auto& p) {
        return kind == 1 || p.first[0] == domain;
      });
      std::erase_if(tables_, [&](const auto& t) {
        return kind == 1 || t.first[0] == domain;
      });
    } else if ((low & 15) == 5) {
      if (!mute) memory_->Store(high, static_cast<std::uint32_t>(low >> 32));
    } else {
      ++bad_descriptors;
    }
  }
  void ForgetPages(std::uint64_t domain, std::uint64_t first,
                   std::uint64_t mask, bool upper) {
    const std::uint64_t last = first + (std::uint64_t{4096} << mask) - 1;
    if (mask > o_.most_mask || !o_.page_selective ||
        (first & ((std::uint64_t{4096} << mask) - 1)) != 0) {
      ++bad_descriptors;
      return;
    }
    // A large page goes with a block of at least its size.
    std::erase_if(pages_, [&](const auto& p) {
      const Hit& hit = p.second;
      return p.first[0] == domain && hit.first <= last && first <= hit.last &&
             (!hit.present || hit.last - hit.first <= last - first);
    });
    std::erase_if(tables_, [&](const auto& t) {
      const std::uint64_t begin = t.first[2] << Shift(t.second.level);
      const std::uint64_t end =
          begin + (std::uint64_t{1} << Shift(t.second.level)) - 1;
      return upper && t.first[0] == domain && begin <= last && first <= end;
    });
  }

  Context ReadContext(PciSource source) {
    Context context;
    const std::uint64_t root = memory_->Load(latched_ + source.bus() * 16);
    if ((root & 1) == 0) return context;
    const std::uint64_t entry =
        (root & ~std::uint64_t{0xfff}) + source.devfn() * 16;
    const std::uint64_t low = memory_->Load(entry);
    const std::uint64_t high = memory_->Load(entry + 8);
    context.present = (low & 1) != 0;
    context.tables = low & ~std::uint64_t{0xfff};
    context.levels = static_cast<unsigned>(high & 7) + 2;
    context.domain = high >> 8 & 0xffff;
    return context;
  }
  Context ContextOf(PciSource source) {
    const auto known = contexts_.find(source.id());
    if (known != contexts_.end()) return known->second;
    const Context context = ReadContext(source);
    if (context.present || o_.caches_absent) contexts_[source.id()] = context;
    return context;
  }
  Hit Find(const Context& c, Iova at) {
    const Key page = {c.domain, 0, at.value() >> 12};
    const auto known = pages_.find(page);
    if (known != pages_.end()) return known->second;
    // The lowest table that is remembered.
    unsigned level = c.levels;
    std::uint64_t table = c.tables;
    for (unsigned l = 2; l <= c.levels; ++l) {
      const auto t = tables_.find({c.domain, l, at.value() >> Shift(l)});
      if (t == tables_.end()) continue;
      level = l - 1;
      table = t->second.bus;
      break;
    }
    const Hit hit = WalkFrom(c, at, level, table, true);
    if (hit.present || o_.caches_absent) pages_[page] = hit;
    return hit;
  }
  Hit WalkFrom(const Context& c, Iova at, unsigned level, std::uint64_t table,
               bool remember) {
    for (;; --level) {
      const std::uint64_t index =
          at.value() >> Shift(level) & ((1u << o_.index_bits) - 1);
      const std::uint64_t entry = memory_->Load(table + index * 8);
      Hit hit;
      hit.first = at.value() >> Shift(level) << Shift(level);
      hit.last = hit.first + (std::uint64_t{1} << Shift(level)) - 1;
      if ((entry & 3) == 0) return hit;
      const std::uint64_t bus = entry & 0x000f'ffff'ffff'f000;
      if (level == 1 || (entry & 0x80) != 0) {
        const std::uint64_t offset = at.value() - hit.first;
        // Reserved bits: a leaf is aligned, or it is a fault.
        if ((bus & (hit.last - hit.first)) != 0 || level > 3) return hit;
        hit.present = true;
        hit.permission = static_cast<Permission>(entry & 3);
        hit.bus = bus + (offset & ~std::uint64_t{0xfff});
        return hit;
      }
      if (remember) {
        tables_[{c.domain, level, at.value() >> Shift(level)}] = {bus, level};
      }
      table = bus;
    }
  }

  Memory* memory_;
  SimVtdOptions o_;
  std::uint32_t status_ = 0;
  std::uint64_t root_ = 0;
  std::uint64_t latched_ = 0;
  std::uint64_t queue_ = 0;
  std::uint64_t head_ = 0;
  std::uint64_t tail_ = 0;
  bool queue_failed_ = false;
  bool overflow_ = false;
  std::size_t first_fault_ = 0;
  std::vector<Fault> faults_;
  // By domain, level, and the address above it.
  std::map<Key, Hit> pages_;
  std::map<Key, TableAt> tables_;
  std::map<std::uint64_t, Context> contexts_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SIM_VTD_H_
