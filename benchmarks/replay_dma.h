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
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "benchmarks/byte_check.h"
#include "benchmarks/dma_trace.h"
#include "benchmarks/lanes.h"
#include "benchmarks/op_timer.h"
#include "dma/address.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "domain/options.h"
#include "testing/device_port.h"

namespace dmamap::bench {

// What the replay asks of a domain; a peer joins by meeting this. The device's
// half are Read and Write (DevicePort).
template <class D>
concept ReplayDomain = std::default_initializable<D> && DevicePort<D> &&
    requires(D& d, PhysAddr buffer, std::uint64_t n, Direction direction,
             const Mapping& mapping, std::span<const ScatterEntry> entries,
             std::span<Mapping> out, std::span<const Mapping> mappings,
             const CoherentBlock& block) {
  // Room for mappings and blocks of this many bytes at once, in whole pages.
  { d.Init(/*stream_bytes=*/n, /*coherent_bytes=*/n) } -> std::same_as<bool>;
  { d.Map(buffer, n, direction) } -> std::same_as<Result<Mapping>>;
  { d.Unmap(mapping) } -> std::same_as<Result<void>>;
  { d.SyncForCpu(mapping, n, n) } -> std::same_as<Result<void>>;
  { d.SyncForDevice(mapping, n, n) } -> std::same_as<Result<void>>;
  // One mapping for each entry, or none at all.
  { d.MapList(entries, direction, out) } -> std::same_as<Result<void>>;
  { d.UnmapList(mappings) } -> std::same_as<Result<void>>;
  { d.AllocateCoherent(n) } -> std::same_as<Result<CoherentBlock>>;
  { d.FreeCoherent(block) } -> std::same_as<Result<void>>;
  // Bytes copied between buffers and what the device sees, so far.
  { d.BytesCopied() } -> std::same_as<std::uint64_t>;
  // Mappings and entries of lists that are live now.
  { d.LiveMappings() } -> std::same_as<std::uint64_t>;
  { d.CheckInvariants() } -> std::same_as<bool>;
};

struct DmaReplay {
  OpTimer timer;                      // kinds: DmaEvent::Op
  std::uint64_t failures = 0;         // calls of the driver that were refused
  std::uint64_t device_failures = 0;  // accesses refused that are allowed
  std::uint64_t allowed = 0;          // accesses allowed that must be refused
  std::uint64_t wrong_bytes = 0;      // on either side
  std::uint64_t foreign_bytes = 0;    // shown to the device beside a buffer
  std::uint64_t checked_bytes = 0;
  std::uint64_t copied_bytes = 0;
  std::uint64_t live_at_end = 0;  // mappings and entries of lists
  std::string first_failure;
  bool sound = true;  // Init, CheckInvariants and the count of live mappings
};

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
    DeviceAfterMap(mapped);
  }

  void Unmap(const DmaEvent& event, Mapped& mapped) {
    if (mapped.buffer == nullptr) return;  // its map failed
    DeviceBeforeUnmap(mapped);
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
    if (writes) DeviceWrite(mapped, offset, size);
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
    if (DeviceReads(event.direction)) DeviceReadAll(mapped);
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
      DeviceAfterMap(list[i]);
    }
  }

  void UnmapList(const DmaEvent& event, List& list) {
    if (list.empty()) return;  // its map failed
    handles_.clear();
    for (Mapped& mapped : list) {
      DeviceBeforeUnmap(mapped);
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

  void Allocate(const DmaEvent& event, std::optional<CoherentBlock>& slot) {
    const Result<CoherentBlock> block =
        Timed(event, [&] { return domain_.AllocateCoherent(event.size); });
    slot.reset();
    if (!block.ok()) return;
    slot = *block;
    const std::span<std::byte> cpu(block->cpu, block->size);
    Expect(cpu, std::vector<std::byte>(cpu.size()));
    pattern_.Fill(cpu);
    Expect(DeviceRead(block->iova, cpu.size()), cpu);
    device_bytes_.resize(cpu.size());
    pattern_.Fill(device_bytes_);
    DeviceWriteAt(block->iova, device_bytes_);
    Expect(cpu, device_bytes_);
  }

  void Free(const DmaEvent& event, std::optional<CoherentBlock>& slot) {
    if (!slot) return;  // its allocation failed
    const auto result =
        Timed(event, [&] { return domain_.FreeCoherent(*slot); });
    if (result.ok()) ExpectRefused(slot->iova, Permission::kRead);
    slot.reset();
  }

  // --- The device's half.

  void DeviceAfterMap(Mapped& mapped) {
    const Mapping& m = mapped.mapping;
    if (DeviceReads(m.direction)) {
      DeviceReadAll(mapped);
    } else {
      ExpectRefused(m.iova, Permission::kRead);
    }
    if (!DeviceWrites(m.direction)) ExpectRefused(m.iova, Permission::kWrite);
    const Iova behind = m.iova + m.size;
    if ((m.iova.value() & (kTracePage - 1)) != 0) ExpectHidden(m.iova - 1);
    if ((behind.value() & (kTracePage - 1)) != 0) ExpectHidden(behind);
  }

  void DeviceBeforeUnmap(Mapped& mapped) {
    if (!DeviceWrites(mapped.mapping.direction)) return;
    const std::size_t size = mapped.buffer->data().size();
    const bool is_short = ++device_frames_ % 4 == 0;
    DeviceWrite(mapped, 0, is_short ? 1 + device_frames_ % size : size);
  }

  void AfterUnmap(Mapped& mapped) {
    if (DeviceWrites(mapped.mapping.direction)) {
      mapped.buffer->ToHost(0, mapped.buffer->data().size());
    }
    CheckHost(mapped);
    ExpectRefused(mapped.mapping.iova, Permission::kRead);
    ExpectRefused(mapped.mapping.iova, Permission::kWrite);
  }

  void DeviceReadAll(Mapped& mapped) {
    const std::span<const std::byte> expected = mapped.buffer->device();
    Expect(DeviceRead(mapped.mapping.iova, expected.size()), expected);
  }

  void DeviceWrite(Mapped& mapped, std::size_t offset, std::size_t size) {
    device_bytes_.resize(size);
    pattern_.Fill(device_bytes_);
    if (DeviceWriteAt(mapped.mapping.iova + offset, device_bytes_)) {
      mapped.buffer->DeviceWrote(offset, device_bytes_);
    }
  }

  std::span<const std::byte> DeviceRead(Iova at, std::size_t size) {
    device_bytes_.resize(size);
    if (!domain_.Read(at, device_bytes_.data(), size).ok()) {
      ++replay_.device_failures;
      // Nothing of an earlier access may pass for what was read now.
      std::fill(device_bytes_.begin(), device_bytes_.end(), std::byte{0});
    }
    return device_bytes_;
  }

  bool DeviceWriteAt(Iova at, std::span<const std::byte> bytes) {
    if (domain_.Write(at, bytes.data(), bytes.size()).ok()) return true;
    ++replay_.device_failures;
    return false;
  }

  void ExpectRefused(Iova at, Permission access) {
    const Transfer probe = access == Permission::kRead
                               ? domain_.Read(at, probe_.data(), 1)
                               : domain_.Write(at, probe_.data(), 1);
    if (probe.ok()) ++replay_.allowed;
  }

  // A byte on a page of a mapping, beside it: refused, or zero.
  void ExpectHidden(Iova at) {
    if (domain_.Read(at, probe_.data(), 1).ok() && probe_[0] != std::byte{0}) {
      ++replay_.foreign_bytes;
    }
  }

  // --- Bookkeeping.

  void Expect(std::span<const std::byte> got,
              std::span<const std::byte> expected) {
    replay_.wrong_bytes += CountWrong(got, expected);
    replay_.checked_bytes += got.size();
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
    for (const Mapped& mapped : mappings_) live += mapped.buffer ? 1 : 0;
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
  std::vector<Mapped> mappings_;                      // by slot
  std::vector<List> lists_;                           // by slot
  std::vector<std::optional<CoherentBlock>> blocks_;  // by slot
  D domain_;
  Pattern pattern_;
  std::vector<std::byte> device_bytes_;  // inside the device
  std::array<std::byte, 8> probe_ = {};
  std::uint64_t device_frames_ = 0;    // written before an unmap
  std::vector<ScatterEntry> entries_;  // arguments of the list calls
  std::vector<Mapping> handles_;
  DmaReplay replay_;
};

}  // namespace internal

// The first `events` events of the trace, or all.
template <ReplayDomain D>
DmaReplay ReplayDma(const DmaTrace& trace, std::size_t events) {
  return internal::DmaReplayer<D>(trace, events).Run();
}

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_REPLAY_DMA_H_
