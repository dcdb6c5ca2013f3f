// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_REPLAY_DMA_H_
#define DMAMAP_BENCHMARKS_REPLAY_DMA_H_

// Replays a .dma trace through a domain: each call of the driver in the
// recorded order, on the thread of its recorded CPU (lanes.h), with a buffer of
// the recorded size at the recorded offset in its page. The recording has no
// data and not the device's part, so the replay plays both:
//
//   map              the driver fills buffer and guards with new bytes first;
//                    a device that may read then reads and compares all of it
//   sync for CPU     a device that may write writes that part before; after,
//                    the driver compares the whole buffer and its guards
//   sync for device  the driver writes new bytes to that part before; after, a
//                    device that may read compares all of it
//   unmap            a device that may write writes before: all of the buffer,
//                    or, one time in four, only its beginning (a short frame);
//                    after, the driver compares buffer and guards
//   scatter lists    the same for each entry
//   coherent memory  zero when new; then each side writes and the other
//   compares
//
// A device also tries what must be refused: a write to a buffer that it may
// only read, a read of one that it may only write, an access after the unmap;
// and what lies beside a buffer on its pages must be refused or zero.
//
// What a byte must be follows from the calls alone (CheckedBuffer), whatever
// the domain does. The driver's calls alone are timed, each by itself.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "benchmarks/byte_check.h"
#include "benchmarks/dma_trace.h"
#include "benchmarks/lanes.h"
#include "benchmarks/played_device.h"
#include "benchmarks/replay_domain.h"
#include "dma/address.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "domain/options.h"

namespace dmamap::bench {

namespace internal {

template <ReplayDomain D>
class DmaReplayer {
 public:
  DmaReplayer(const DmaTrace& trace, std::size_t events)
      : events_(std::span(trace.events)
                    .first(std::min(events, trace.events.size()))),
        lanes_(trace.cpus.size()),
        mappings_(trace.mapping_slots),
        lists_(trace.list_slots),
        blocks_(trace.block_slots) {
    replay_.sound =
        domain_.Init(trace.peak_stream_bytes, trace.peak_coherent_bytes);
  }

  DmaReplay Run() {
    if (!replay_.sound) return replay_;
    const std::vector<Turn> turns = TurnsOf(events_);
    RunOnLanes(
        lanes_, turns, [this](const Turn& turn) { RunTurn(turn); },
        [this] { Finish(); });
    return replay_;
  }

 private:
  using Op = DmaEvent::Op;
  static constexpr std::size_t kChunk = 512;  // events

  struct Mapped {
    Mapping mapping;
    std::unique_ptr<CheckedBuffer> buffer;  // null: not mapped
  };
  using List = std::vector<Mapped>;  // empty: not mapped
  struct Block {
    CoherentBlock block;
    std::vector<std::byte> holds;
  };

  void RunTurn(const Turn& turn) {
    for (std::size_t at = turn.first; at < turn.end;) {
      const std::size_t chunk_end = std::min(at + kChunk, turn.end);
      replay_.timer.BeginChunk();
      for (; at < chunk_end; ++at) RunEvent(events_[at]);
      replay_.timer.EndChunk();
    }
  }

  void RunEvent(const DmaEvent& event) {
    switch (event.op) {
      case Op::kMap:
        return Map(event, mappings_[event.slot]);
      case Op::kUnmap:
        return Unmap(event, mappings_[event.slot]);
      case Op::kSyncForCpu:
        return SyncForCpu(event, mappings_[event.slot]);
      case Op::kSyncForDevice:
        return SyncForDevice(event, mappings_[event.slot]);
      case Op::kMapList:
        return MapList(event, lists_[event.slot]);
      case Op::kUnmapList:
        return UnmapList(event, lists_[event.slot]);
      case Op::kAllocate:
        return Allocate(event, blocks_[event.slot]);
      case Op::kFree:
        return Free(event, blocks_[event.slot]);
    }
  }

  // Calls `call` and times it, unless the recording did not have it.
  template <class Call>
  auto Timed(const DmaEvent& event, Call&& call) {
    replay_.timer.Start();
    auto result = call();
    if (!event.implied) {
      replay_.timer.Stop(static_cast<std::size_t>(event.op), 1);
    }
    if (!result.ok()) Fail(event, result.error());
    return result;
  }

  void Fail(const DmaEvent& event, Error error) {
    if (replay_.failures++ != 0) return;
    replay_.first_failure =
        absl::StrCat("first failure: operation ", static_cast<int>(event.op),
                     " of size ", event.size, ": ", ToString(error));
  }

  // --- Streaming mappings.

  void Map(const DmaEvent& event, Mapped& mapped) {
    mapped.buffer = NewBuffer(event.offset, event.size);
    const Result<Mapping> mapping = Timed(event, [&] {
      return domain_.Map(PhysAddrOf(mapped.buffer->data().data()), event.size,
                         event.direction);
    });
    if (!mapping.ok()) return PutBuffer(mapped);
    mapped.mapping = *mapping;
    device_.AfterMap(mapped.mapping, *mapped.buffer);
  }

  void Unmap(const DmaEvent& event, Mapped& mapped) {
    if (mapped.buffer == nullptr) return;  // its map failed
    device_.BeforeUnmap(mapped.mapping, *mapped.buffer);
    const auto result =
        Timed(event, [&] { return domain_.Unmap(mapped.mapping); });
    if (result.ok()) AfterUnmap(mapped);
    PutBuffer(mapped);
  }

  void SyncForCpu(const DmaEvent& event, Mapped& mapped) {
    if (mapped.buffer == nullptr) return;
    const std::size_t offset = event.offset;
    const std::size_t size = event.size;
    const bool writes = DeviceWrites(event.direction);
    if (writes) device_.WritePart(mapped.mapping, *mapped.buffer, offset, size);
    const auto result = Timed(event, [&] {
      return domain_.SyncForCpu(mapped.mapping, offset, size);
    });
    if (result.ok() && writes) mapped.buffer->ToHost(offset, size);
    CheckHost(mapped);
  }

  void SyncForDevice(const DmaEvent& event, Mapped& mapped) {
    if (mapped.buffer == nullptr) return;
    mapped.buffer->Write(event.offset, event.size, pattern_);
    const auto result = Timed(event, [&] {
      return domain_.SyncForDevice(mapped.mapping, event.offset, event.size);
    });
    if (result.ok()) mapped.buffer->ToDevice(event.offset, event.size);
    if (DeviceReads(event.direction)) {
      device_.ReadAll(mapped.mapping, *mapped.buffer);
    }
  }

  // --- Scatter lists.

  void MapList(const DmaEvent& event, List& list) {
    entries_.clear();
    for (std::uint64_t i = 0; i < event.size; ++i) {
      const std::uint64_t bytes = ListEntryBytes(event.size, i);
      list.push_back({Mapping(), NewBuffer(0, bytes)});
      entries_.push_back({PhysAddrOf(list[i].buffer->data().data()), bytes});
    }
    handles_.assign(event.size, Mapping());
    const auto result = Timed(event, [&] {
      return domain_.MapList(entries_, event.direction, handles_);
    });
    if (!result.ok()) return PutList(list);
    for (std::size_t i = 0; i < list.size(); ++i) {
      list[i].mapping = handles_[i];
      device_.AfterMap(list[i].mapping, *list[i].buffer);
    }
  }

  void UnmapList(const DmaEvent& event, List& list) {
    if (list.empty()) return;  // its map failed
    handles_.clear();
    for (Mapped& mapped : list) {
      device_.BeforeUnmap(mapped.mapping, *mapped.buffer);
      handles_.push_back(mapped.mapping);
    }
    const auto result =
        Timed(event, [&] { return domain_.UnmapList(handles_); });
    if (result.ok()) {
      for (Mapped& mapped : list) AfterUnmap(mapped);
    }
    PutList(list);
  }

  // --- Coherent memory.

  void Allocate(const DmaEvent& event, std::optional<Block>& slot) {
    const Result<CoherentBlock> block =
        Timed(event, [&] { return domain_.AllocateCoherent(event.size); });
    slot.reset();
    if (block.ok()) slot = Block{*block, device_.UseBlock(*block)};
  }

  void Free(const DmaEvent& event, std::optional<Block>& slot) {
    if (!slot) return;  // its allocation failed
    CheckBlock(*slot);
    const auto result =
        Timed(event, [&] { return domain_.FreeCoherent(slot->block); });
    if (result.ok()) {
      device_.ExpectRefused(slot->block.iova, Permission::kRead);
    }
    slot.reset();
  }

  // --- Bookkeeping.

  void AfterUnmap(Mapped& mapped) {
    if (DeviceWrites(mapped.mapping.direction)) {
      mapped.buffer->ToHost(0, mapped.buffer->data().size());
    }
    CheckHost(mapped);
    device_.AfterUnmap(mapped.mapping);
  }
  void CheckBlock(const Block& block) {
    device_.Expect({block.block.cpu, block.holds.size()}, block.holds);
  }

  void CheckHost(Mapped& mapped) {
    replay_.wrong_bytes += mapped.buffer->CountWrongInHost();
    replay_.checked_bytes +=
        mapped.buffer->data().size() + 2 * CheckedBuffer::kGuard;
  }

  std::unique_ptr<CheckedBuffer> NewBuffer(std::size_t offset,
                                           std::size_t size) {
    std::unique_ptr<CheckedBuffer> buffer = buffers_.Take(offset, size);
    buffer->FillAll(pattern_);
    return buffer;
  }
  void PutBuffer(Mapped& mapped) { buffers_.Put(std::move(mapped.buffer)); }
  void PutList(List& list) {
    for (Mapped& mapped : list) PutBuffer(mapped);
    list.clear();
  }

  void Finish() {
    std::uint64_t live = 0;
    for (Mapped& mapped : mappings_) {
      if (mapped.buffer == nullptr) continue;
      CheckHost(mapped);
      ++live;
    }
    for (const std::optional<Block>& block : blocks_) {
      if (block) CheckBlock(*block);
    }
    for (const List& list : lists_) live += list.size();
    replay_.live_at_end = live;
    replay_.copied_bytes = domain_.BytesCopied();
    // A mapping whose unmap was refused may be live still: that is a failure
    // already.
    replay_.sound = domain_.CheckInvariants() &&
                    (replay_.failures != 0 || domain_.LiveMappings() == live);
  }

  std::span<const DmaEvent> events_;
  std::size_t lanes_;
  // Buffers before the domain: it must not outlive what it may copy to.
  CheckedBuffers buffers_;
  std::vector<Mapped> mappings_;              // by slot
  std::vector<List> lists_;                   // by slot
  std::vector<std::optional<Block>> blocks_;  // by slot
  D domain_;
  Pattern pattern_;
  DmaReplay replay_;
  PlayedDevice<D> device_{domain_, pattern_, replay_};
  std::vector<ScatterEntry> entries_;  // arguments of the list calls
  std::vector<Mapping> handles_;
};

}  // namespace internal

// The first `events` events of the trace, or all.
template <ReplayDomain D>
DmaReplay ReplayDma(const DmaTrace& trace, std::size_t events) {
  return internal::DmaReplayer<D>(trace, events).Run();
}

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_REPLAY_DMA_H_
