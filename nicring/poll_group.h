// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_POLL_GROUP_H_
#define DMAMAP_NICRING_POLL_GROUP_H_

// PollGroup: several rings behind one Napi, each with a weight.
//
//   RingPoller rx{&rx_ring, &rx_sink, &nic};      // any ring of this folder
//   RingPoller tx{&tx_ring, &tx_sink, &nic};
//   std::array members = {PollMember(&rx, 64), PollMember(&tx, 32)};
//   PollGroup group(members);
//   napi.Poll(300, [&](std::size_t n) { return group.Poll(n); },
//             [&] { return group.HasWork(); });
//
// The rings take turns: each consumes at most its weight, then comes the next
// one, until the budget is spent or a whole turn found every ring drained. A
// turn that the budget cut goes on in the next pass where it stopped. While all
// have work they are hence served in the proportion of their weights, and none
// waits for more than the sum of the others' weights.
//
// What Napi needs of a poll function holds: fewer frames than the budget means
// that every ring was seen drained. One pass makes at most as many calls as
// there are members for each frame of the budget, and one turn more.
//
// The group keeps a span of its members; members and what they name must
// outlive it. Not thread-safe: calls are ordered, as Napi does.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "dma/version.h"

namespace dmamap::inline v0 {

template <class S>
concept PollSource = requires(S& source, std::size_t most) {
  // Consumes at most `most` frames; how many it was. Fewer: drained.
  { source.Poll(most) } -> std::same_as<std::size_t>;
  // True when a poll would find something.
  { source.HasWork() } -> std::same_as<bool>;
};

// A ring with its sink and its registers: RxRing or TxRing as a PollSource.
template <class Ring, class SinkType, class Port>
struct RingPoller {
  Ring* ring;
  SinkType* sink;
  Port* port;

  std::size_t Poll(std::size_t most) {
    return ring->Poll(most, *sink, *port).done;
  }
  bool HasWork() { return ring->HasWork(); }
};

// A PollSource of any type, and its weight: the frames it may consume before it
// is another's turn. 0 counts as 1.
class PollMember {
 public:
  template <PollSource S>
  PollMember(S* source, std::uint32_t weight)
      : source_(source),
        poll_(
            [](void* s, std::size_t n) { return static_cast<S*>(s)->Poll(n); }),
        has_work_([](void* s) { return static_cast<S*>(s)->HasWork(); }),
        weight_(weight == 0 ? 1 : weight) {}

  std::size_t Poll(std::size_t most) const { return poll_(source_, most); }
  bool HasWork() const { return has_work_(source_); }
  std::uint32_t weight() const { return weight_; }

 private:
  void* source_;
  std::size_t (*poll_)(void*, std::size_t);
  bool (*has_work_)(void*);
  std::uint32_t weight_;
};

class PollGroup {
 public:
  explicit PollGroup(std::span<const PollMember> members) : members_(members) {}

  // One pass: at most `budget` frames in all.
  std::size_t Poll(std::size_t budget) {
    std::size_t done = 0;
    std::size_t drained = 0;  // members in a row that were
    while (done < budget && drained < members_.size()) {
      const PollMember& member = members_[turn_];
      const std::size_t turn = left_ != 0 ? left_ : member.weight();
      const std::size_t share = turn < budget - done ? turn : budget - done;
      const std::size_t n = member.Poll(share);
      done += n;
      drained = n < share ? drained + 1 : 0;
      left_ = n < share ? 0 : turn - share;
      if (left_ == 0) turn_ = turn_ + 1 == members_.size() ? 0 : turn_ + 1;
    }
    return done;
  }

  bool HasWork() const {
    for (const PollMember& member : members_) {
      if (member.HasWork()) return true;
    }
    return false;
  }

  bool CheckInvariants() const {
    if (members_.empty()) return turn_ == 0 && left_ == 0;
    return turn_ < members_.size() && left_ < members_[turn_].weight();
  }

 private:
  std::span<const PollMember> members_;
  std::size_t turn_ = 0;  // whose turn it is
  std::size_t left_ = 0;  // what a cut turn has left; 0: a whole one
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_POLL_GROUP_H_
