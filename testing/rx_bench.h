// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_RX_BENCH_H_
#define DMAMAP_TESTING_RX_BENCH_H_

// For the tests of this folder: a ring, a pool and a simulated i8255x on one
// bench, once with an identity mapping and once with a copying mapper.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "dma/mapper.h"
#include "nicring/buffer_pool.h"
#include "nicring/i8255x.h"
#include "nicring/rx_ring.h"
#include "testing/batched_sink.h"
#include "testing/copying_mapper.h"
#include "testing/device_port.h"
#include "testing/hooked_access.h"
#include "testing/sim_i8255x.h"

namespace dmamap::inline v0 {
namespace testing_bench {

using Bytes = std::vector<std::byte>;

// A frame that names itself: its number, and bytes that follow from it.
inline Bytes MakeFrame(std::uint32_t number, std::size_t size) {
  Bytes frame(size);
  for (std::size_t i = 0; i < size; ++i) {
    frame[i] = static_cast<std::byte>((number >> (i % 4 * 8)) + i / 4 * 37);
  }
  return frame;
}

struct BenchOptions {
  std::uint32_t entries = 4;
  std::uint32_t room = 64;
  std::uint32_t buffers = 16;
  std::uint32_t max_frame = 0;
  LengthPolicy policy = LengthPolicy::kReject;
  HeaderFetch fetch = HeaderFetch::kOnFrame;
  CopyingMapperOptions mapper;
};

// The driver's accesses to shared memory call g_hook first, in an identity
// mapping; a copying mapping has a hook of its own.
struct HookedFormat : BasicI8255xFormat<HookedAccess> {
  static void WriteLink(std::byte* rfd, std::uint32_t offset) {
    Hook();
    BasicI8255xFormat<HookedAccess>::WriteLink(rfd, offset);
  }
};

// Keeps what was delivered.
struct CollectingSink {
  BufferFate Deliver(const RxFrame& frame) {
    frames.emplace_back(frame.data, frame.data + frame.length);
    if (!keep) return BufferFate::kReturn;
    kept.push_back(frame.buffer);
    return BufferFate::kKeep;
  }
  std::vector<Bytes> frames;
  std::vector<Buffer> kept;
  bool keep = false;
};

// Two ways to see memory.
struct IdentityWorld {
  using MapperType = IdentityMapper;
  using Port = IdentityPort;
  IdentityWorld(const BenchOptions&, PhysRange memory)
      : base(memory.first().value() - 4096),
        port(*Range::FromFirstLast(Iova(memory.first().value()),
                                   Iova(memory.last().value()))) {}
  Iova base;  // below the first buffer: a link of 0 leads nowhere
  MapperType mapper;
  Port port;
};
template <class M = CopyingMapper>
struct CopyingWorld {
  using MapperType = M;
  using Port = CopyingMapper::Port;
  CopyingWorld(const BenchOptions& options, PhysRange)
      : mapper(options.mapper), port(mapper.port()) {}
  Iova base;
  MapperType mapper;
  Port port;
};

// The device's registers, with a check on every start.
template <class Sim, class Port>
struct CheckedRegisters {
  // True when a descriptor from `first` on that the device would fill is
  // complete already: a start there loses its frame.
  static bool CompleteAhead(Port& port, Iova base, Iova first) {
    for (int i = 0; i < 64; ++i) {
      std::uint8_t rfd[16];
      if (!port.Read(first, rfd, 2).ok() ||
          !port.Read(first + 2, rfd + 2, 14).ok())
        return false;
      if ((rfd[1] & 0x80) != 0) return true;
      if ((rfd[3] & 0x80) != 0) return false;
      std::uint32_t link;
      std::memcpy(&link, rfd + 4, 4);
      if (link == 0) return false;
      first = base + LoadLe32(reinterpret_cast<const std::byte*>(rfd + 4));
    }
    return false;
  }
  Result<void> Start(Iova first) {
    if (CompleteAhead(*port, base, first)) ++bad_starts;
    return sim->Start(first);
  }
  bool Stopped() { return sim->Stopped(); }
  void AcknowledgeRnr() { sim->AcknowledgeRnr(); }
  void Abort() { sim->Abort(); }

  Sim* sim;
  Port* port;
  Iova base;
  int bad_starts = 0;
};

template <class World, class Format = I8255xFormat, class LockType = NullLock>
class Bench {
 public:
  using Port = typename World::Port;
  using Sim = SimI8255x<Port, LockType>;
  using Ring = RxRing<Format, typename World::MapperType, FixedPool>;

  explicit Bench(const BenchOptions& options = {}) {
    const Result<void> pooled =
        pool.Init({options.buffers, 16 + options.room, 2});
    world.emplace(options, *pool.memory());
    SimI8255xOptions sim_options;
    sim_options.ru_base = world->base;
    sim_options.header_fetch = options.fetch;
    sim_options.min_frame = 1;
    sim.emplace(&world->port, sim_options);
    registers = {&*sim, &world->port, world->base, 0};
    RxRingOptions ring_options;
    ring_options.entries = options.entries;
    ring_options.room = options.room;
    ring_options.max_frame = options.max_frame;
    ring_options.length_policy = options.policy;
    ring_options.base = world->base;
    const Result<void> made = ring.Init(&world->mapper, &pool, ring_options);
    ready_ = pooled.ok() && made.ok();
  }
  ~Bench() {
    SetHook(nullptr);
    ring.Shutdown(registers);
  }

  // Sound() is false ever after if the ring does not start.
  void Start() { ready_ = ready_ && ring.Start(registers).ok(); }
  // A frame of `size` bytes, numbered in order.
  void Inject(std::size_t size, std::uint16_t errors = 0) {
    const Bytes frame = MakeFrame(next_frame, size);
    if (sim->Inject(frame, errors)) fifo.push_back({next_frame, size});
    ++next_frame;
  }
  // One device step; the bench notes which frame was stored.
  bool Step() {
    const SimI8255xCounters before = sim->counters();
    const bool moved = sim->Step();
    const SimI8255xCounters after = sim->counters();
    if (after.rx_good != before.rx_good) {
      stored.push_back(MakeFrame(fifo.front().first, fifo.front().second));
    }
    while (fifo.size() > sim->waiting()) fifo.pop_front();
    return moved;
  }
  void RunDevice() {
    while (Step()) {
    }
  }
  RxPollResult Poll(std::size_t budget) {
    if (interrupts && (sim->Acknowledge() & Sim::kCauseRnr) != 0) ring.OnRnr();
    if (in_batches) return ring.Poll(budget, batched, registers);
    return ring.Poll(budget, sink, registers);
  }
  // Runs before each access of the driver to what the device sees.
  void SetHook(std::function<void()> hook) {
    if constexpr (requires { world->mapper.set_hook(hook); }) {
      world->mapper.set_hook(std::move(hook));
    } else {
      g_hook = std::move(hook);
    }
  }
  // Polls, with the device running in between, until nothing moves. Sound() is
  // false ever after if that does not come to an end.
  void Settle() {
    for (int i = 0; i < 200; ++i) {
      RunDevice();
      const RxPollResult r = Poll(64);
      if (r.done == 0 && !r.restarted && sim->waiting() == 0) return;
    }
    ready_ = false;
  }
  bool Sound() {
    const SimI8255xCounters c = sim->counters();
    return ready_ && ring.CheckInvariants() && pool.CheckInvariants() &&
           sim->CheckInvariants() && c.bus_errors == 0 &&
           c.illegal_starts == 0 && registers.bad_starts == 0;
  }

  FixedPool pool;
  std::optional<World> world;
  std::optional<Sim> sim;
  CheckedRegisters<Sim, Port> registers;
  Ring ring;
  CollectingSink sink;
  BatchedSink<CollectingSink> batched{&sink};
  bool in_batches = false;
  std::deque<std::pair<std::uint32_t, std::size_t>> fifo;
  std::vector<Bytes> stored;  // good frames that the device has completed
  std::uint32_t next_frame = 1;
  bool interrupts = true;  // false: nobody reads the causes

 private:
  bool ready_ = true;
};

}  // namespace testing_bench
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_RX_BENCH_H_
