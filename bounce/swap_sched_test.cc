// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Pages that move to other memory against all that uses them, under the
// deterministic scheduler: no byte is lost, and no page is used once it is
// gone.

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "bounce/bounce.h"
#include "bounce/sched_world_for_test.h"
#include "bounce/slot.h"
#include "dma/address.h"
#include "dma/asymmetric_fence.h"
#include "dma/atom.h"
#include "dma/result.h"
#include "testing/sched/explore.h"

namespace dmamap {
namespace {

constexpr std::byte kWritten{0x77};
using Fenced = SymmetricFence<sched::Atomic>;

// A wait for a page that is hidden and comes back may read two old values so
// often, with a relax each, before it is the last thread's turn to go on.
constexpr std::uint32_t kSpinSteps = 6 * kSchedRereads;
sched::Report NothingIsLost(const char* name, const sched::Body& body,
                            std::uint32_t preemptions = 1) {
  return Holds(name, body, preemptions, kSpinSteps);
}

// A device whose accesses an invalidation waits for.
class Device {
 public:
  template <class F>
  void Access(F&& f) {
    busy_.store(1, std::memory_order_seq_cst);
    AtomFence<sched::Atomic>(std::memory_order_seq_cst);
    f();
    busy_.store(0, std::memory_order_release);
  }
  Result<void> Wait() {
    AtomFence<sched::Atomic>(std::memory_order_seq_cst);
    while (busy_.load(std::memory_order_acquire) != 0) {
      AtomRelax<sched::Atomic>();
    }
    return Ok();
  }

 private:
  sched::Atomic<int> busy_{0};
};

template <class W>
void Swap(W& w, Device& device, bool waits = true) {
  const auto moved = w.bounce().SwapPages(
      PageHome::kLent, [&](Range) { return waits ? device.Wait() : Ok(); });
  sched::Check(moved.ok(), "SwapPages");
  sched::Check(w.pages().out(PageHome::kOwn) == 0, "an old page is left");
}
// The byte that a device writes and that must be found again.
template <class W>
std::byte& ByteOf(W& w, std::byte* page, const BounceBuffer& b) {
  return page[(b.body.first() - w.bounce().PageRange(b.body.first()).first()) +
              5];
}

// Until the page is not being moved.
template <class W>
void WriteByDevice(W& w, Device& device, const BounceBuffer& b) {
  for (bool done = false; !done;) {
    device.Access([&] {
      std::byte* const page = w.TryTouch(b.body.first());
      if (page == nullptr) return;
      ByteOf(w, page, b) = kWritten;
      w.pages().Use(page);
      done = true;
    });
    if (!done) w.AwaitPage(b.body.first());
  }
}

// --- A device's access through Touch ---

sched::Body SwapAgainstDevice(bool waits) {
  return [waits] {
    BounceWorld<> w(1, 1);
    Device device;
    w.memory().set_interrupted(true);
    const BounceBuffer b = w.Shape(0, 1, 0);
    w.Map(b);
    (void)w.Touch(Iova(0));
    sched::RunThreads(
        {[&] { WriteByDevice(w, device, b); }, [&] { Swap(w, device, waits); }},
        [&] {
          std::byte* const page = w.Touch(b.body.first());
          sched::Check(ByteOf(w, page, b) == kWritten, "lost");
          sched::Check(w.pages().in_use() == 1, "pages");
        });
  };
}
TEST(SwapSched, AgainstADevicesAccess) {
  EXPECT_GT(NothingIsLost("device", SwapAgainstDevice(true), 2).executions,
            50u);
}
TEST(SwapSchedControl, AgainstADevicesAccess) {
  IsFound("no wait", SwapAgainstDevice(false));
  IsFound("wait", SwapAgainstDevice(true), {.function = "Wait"});
}

// --- The first touch of a page ---

// (Another page is there, so that the swap has something to do.)
sched::Body SwapAgainstFault() {
  return [] {
    BounceWorld<> w(2, 1);
    Device device;
    w.memory().set_interrupted(true);
    const BounceBuffer b = w.Shape(1, 1, 0);
    w.Map(b);
    (void)w.Touch(Iova(0));
    sched::RunThreads(
        {[&] { WriteByDevice(w, device, b); }, [&] { Swap(w, device); }}, [&] {
          std::byte* const page = w.Touch(b.body.first());
          sched::Check(ByteOf(w, page, b) == kWritten, "lost");
          sched::Check(w.pages().in_use() == 2, "pages");
        });
  };
}
TEST(SwapSched, AgainstAFault) {
  EXPECT_GT(NothingIsLost("fault", SwapAgainstFault()).executions, 50u);
}

// --- A map: what it shows is there afterwards ---

template <template <class> class Atom = sched::Atomic, class Fence = Fenced>
sched::Body SwapAgainstMap(std::uint64_t slots_a_page, std::uint64_t slots) {
  return [=] {
    BounceWorld<Atom, Fence> w(2, slots_a_page);
    Device device;
    w.memory().set_interrupted(true);
    (void)w.Touch(Iova(0));
    const BounceBuffer b = w.Shape(0, slots, 0);
    sched::RunThreads({[&] { w.Map(b); }, [&] { Swap(w, device); }},
                      [&] { w.CheckShown(b); });
  };
}
TEST(SwapSched, AgainstMap) {
  EXPECT_GT(NothingIsLost("map", SwapAgainstMap(1, 1)).executions, 50u);
  EXPECT_GT(NothingIsLost("shared", SwapAgainstMap(2, 1)).executions, 50u);
  EXPECT_GT(NothingIsLost("long", SwapAgainstMap(1, 2)).executions, 50u);
}

// The words are not looked at: every mapping seems to be live.
struct AllLive {
  static std::uint64_t Told(std::string_view function, std::uint64_t truth) {
    const SlotWord word(truth);
    const bool is_word = word.tag() > 0 && word.tag() < 100;  // no address
    const bool taken = is_word && !word.is_free();
    return taken && (function == "LookAt" || function == "Read")
               ? SlotWord(word.tag(), SlotState::kLive).bits()
               : truth;
  }
};
TEST(SwapSchedControl, AgainstMap) {
  IsFound("blind", SwapAgainstMap<LyingAtoms<AllLive>::Atom>(1, 1));
  IsFound("no light fence", SwapAgainstMap<sched::Atomic, NoLightFence>(1, 1));
}

// --- An unmap and a sync: what the device wrote comes back ---

template <template <class> class Atom = sched::Atomic, class Fence = Fenced>
sched::Body SwapAgainstUnmap(std::uint64_t slots_a_page) {
  return [=] {
    BounceWorld<Atom, Fence> w(1, slots_a_page);
    Device device;
    w.memory().set_interrupted(true);
    const BounceBuffer b = w.Shape(0, 1, 0);
    auto& slot = w.Map(b);
    ByteOf(w, w.Touch(Iova(0)), b) = kWritten;
    sched::RunThreads(
        {[&] {
           w.BeginEnd(slot);
           w.bounce().SettleAll(b.slots);
           w.memory().set_copies_back(true);
           std::uint64_t bytes = 0;
           sched::Check(w.bounce().CopyOut(b.body, b.buffer, &bytes).ok() &&
                            bytes == b.body.size(),
                        "not all came back");
           w.bounce().Vacate(slot, SlotState::kFree);
         },
         [&] { Swap(w, device); }},
        [&] {
          sched::Check(PointerTo(b.buffer)[5] == kWritten, "lost");
          sched::Check(w.pages().in_use() == 1, "pages");
        });
  };
}
template <template <class> class Atom = sched::Atomic>
sched::Body SwapAgainstSync(bool to_device) {
  return [=] {
    BounceWorld<Atom> w(1, 1);
    Device device;
    w.memory().set_interrupted(true);
    const BounceBuffer b = w.Shape(0, 1, 0);
    auto& slot = w.Map(b);
    std::byte* const page = w.Touch(Iova(0));
    if (!to_device) ByteOf(w, page, b) = kWritten;
    sched::RunThreads(
        {[&] {
           slot.word.fetch_add(SlotWord::kPin, std::memory_order_seq_cst);
           std::uint64_t bytes = 0;
           if (to_device) {
             PointerTo(b.buffer)[5] = kWritten;
             sched::Check(w.bounce().CopyIn(b.body, b.buffer, &bytes).ok(),
                          "CopyIn");
           } else {
             w.memory().set_copies_back(true);
             sched::Check(w.bounce().CopyOut(b.body, b.buffer, &bytes).ok(),
                          "CopyOut");
           }
           sched::Check(bytes == b.body.size(), "not all was copied");
           slot.word.fetch_sub(SlotWord::kPin, std::memory_order_release);
         },
         [&] { Swap(w, device); }},
        [&] {
          sched::Check(PointerTo(b.buffer)[5] == kWritten, "lost");
          sched::Check(ByteOf(w, w.Touch(Iova(0)), b) == kWritten, "lost here");
        });
  };
}
TEST(SwapSched, AgainstUnmap) {
  EXPECT_GT(NothingIsLost("unmap", SwapAgainstUnmap(1)).executions, 50u);
  EXPECT_GT(NothingIsLost("shared", SwapAgainstUnmap(2)).executions, 50u);
}
TEST(SwapSched, AgainstSync) {
  EXPECT_GT(NothingIsLost("for the CPU", SwapAgainstSync(false)).executions,
            50u);
  EXPECT_GT(NothingIsLost("for the device", SwapAgainstSync(true)).executions,
            50u);
}
TEST(SwapSchedControl, AgainstSync) {
  IsFound("blind", SwapAgainstSync<LyingAtoms<AllLive>::Atom>(true));
}

// Two mappings of one page, and one of them goes: the other's bytes move along.
TEST(SwapSched, ANeighbourKeepsItsBytes) {
  NothingIsLost(
      "neighbour",
      [] {
        BounceWorld<> w(1, 2);
        Device device;
        w.memory().set_interrupted(true);
        const BounceBuffer goes = w.Shape(0, 1, 0);
        const BounceBuffer stays = w.Shape(1, 1, 1);
        auto& slot = w.Map(goes);
        w.Map(stays);
        ByteOf(w, w.Touch(Iova(0)), stays) = kWritten;
        sched::RunThreads(
            {[&] { w.End(slot, goes); }, [&] { Swap(w, device); }}, [&] {
              std::byte* const page = w.Touch(stays.body.first());
              sched::Check(ByteOf(w, page, stays) == kWritten, "lost");
            });
      },
      1);
}

}  // namespace
}  // namespace dmamap
