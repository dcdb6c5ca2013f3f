// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_HOSTILE_I8255X_H_
#define DMAMAP_TESTING_HOSTILE_I8255X_H_

// HostileI8255x: an Intel 8255x receive unit that means harm. It has the
// registers of SimI8255x and keeps to no rule: it completes RFDs out of turn,
// past the end of the list and again, with random counts and status words;
// takes completions back; rewrites links, end bits and sizes, which only the
// driver may write; replays old headers; writes to buffers long after it
// completed them; and lies about whether it runs.
//
// It reaches memory through a DevicePort, as every device: what the mapper does
// not map it cannot touch. Each call of Act is one misdeed, chosen by the
// caller's random numbers, so that a fuzzer or RapidCheck drives it and a
// failure can be replayed. Most misdeeds are small, so that frames get through
// in between. Not thread-safe; no unbounded loop.

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"
#include "testing/device_port.h"

namespace dmamap::inline v0 {

template <DevicePort Port>
class HostileI8255x {
 public:
  // Links are offsets from `base`.
  explicit HostileI8255x(Port* port, Iova base = Iova(0))
      : port_(port), base_(base) {}
  HostileI8255x(const HostileI8255x&) = delete;
  HostileI8255x& operator=(const HostileI8255x&) = delete;

  // A ReceiverPort.
  Result<void> Start(Iova first) {
    if (refuses_) {
      refuses_ = false;
      return Error::kBusy;
    }
    rfd_ = first;
    running_ = true;
    stopped_ = false;
    Learn(first);
    return Ok();
  }
  bool Stopped() { return stopped_; }
  void AcknowledgeRnr() {}
  void Abort() {
    running_ = false;
    stopped_ = true;
  }

  // What its interrupt says: "receiver not ready", true or not.
  bool ClaimsRnr() const { return stopped_ || claims_rnr_; }

  // One misdeed. `random` is a function that returns 32 random bits.
  template <class Random>
  void Act(Random&& random) {
    if (!running_) return;
    const std::uint32_t deed = random() % 64;
    if (deed < 32) return FillNext(random);
    if (deed < 36) return Lie(random);
    if (deed < 40) return WriteLate(random);
    if (deed < 44) return Complete(Any(random), random(), random);
    if (deed < 47) return Write16(Any(random) + kStatusAt, 0);  // not done
    if (deed < 50) return Rewrite(random);
    if (deed < 53) return WriteByte(random);
    if (deed < 56) return Replay(random);
    if (deed < 60) return Goto(Any(random));
    Scribble(random);
  }

 private:
  static constexpr std::uint64_t kStatusAt = 0;
  static constexpr std::uint64_t kCommandAt = 2;
  static constexpr std::uint64_t kLinkAt = 4;
  static constexpr std::uint64_t kCountAt = 12;
  static constexpr std::uint64_t kSizeAt = 14;
  static constexpr std::size_t kMost = 32;

  using Header = std::array<std::uint8_t, 16>;
  struct Known {  // an RFD that it met, and how it looked then
    Iova at;
    Header header{};
  };

  void Write16(Iova at, std::uint32_t word) {
    const std::array<std::uint8_t, 2> b = {
        static_cast<std::uint8_t>(word & 0xff),
        static_cast<std::uint8_t>(word >> 8 & 0xff)};
    (void)port_->Write(at, b.data(), b.size());
  }
  void Write32(Iova at, std::uint32_t word) {
    Write16(at, word);
    Write16(at + 2, word >> 16);
  }
  static std::uint32_t Word(const Header& h, std::uint64_t at) {
    const auto i = static_cast<std::size_t>(at);
    return h[i] | std::uint32_t{h[i + 1]} << 8;
  }
  bool Learn(Iova at) {
    Known known{at, {}};
    if (!port_->Read(at, known.header.data(), known.header.size()).ok()) {
      return false;
    }
    if (known_.size() >= kMost) known_.erase(known_.begin());
    known_.push_back(known);
    return true;
  }
  template <class Random>
  Iova Any(Random& random) const {
    return known_.empty() ? rfd_ : known_[random() % known_.size()].at;
  }
  void Goto(Iova at) { rfd_ = at; }

  // In turn, and nearly as it should be: so that the driver gets on. Now and
  // then it does not heed the end of the list.
  template <class Random>
  void FillNext(Random& random) {
    if (!Learn(rfd_)) return Goto(Any(random));
    const Header& header = known_.back().header;
    const std::uint32_t size = Word(header, kSizeAt) & 0x3fff;
    const bool end = (Word(header, kCommandAt) & 0x8000) != 0;
    const Iova here = rfd_;
    const Iova next =
        base_ + (Word(header, kLinkAt) | Word(header, kLinkAt + 2) << 16);
    if ((size == 0 || end) && random() % 8 != 0) {
      stopped_ = stopped_ || random() % 2 != 0;
      if (size == 0) return;
    }
    const std::uint32_t length =
        random() % 4 == 0 ? size : random() % (size + 1);
    Write32(here + 16, random());
    Complete(here, length, random);
    if (!end) Goto(next);
  }
  template <class Random>
  void Complete(Iova at, std::uint32_t count, Random& random) {
    const std::uint32_t wild = random() % 8;
    Write16(at + kCountAt, wild == 0 ? random() : 0xc000 | (count & 0x3fff));
    Write16(at + kStatusAt, wild == 1 ? 0x8000 | random() : 0xa000);
  }
  // About its state, and about the reason for an interrupt.
  template <class Random>
  void Lie(Random& random) {
    const std::uint32_t lie = random();
    stopped_ = (lie & 1) != 0;
    claims_rnr_ = (lie & 2) != 0;
    refuses_ = (lie & 12) == 12;
  }
  // What only the driver writes.
  template <class Random>
  void Rewrite(Random& random) {
    const Iova at = Any(random);
    switch (random() % 3) {
      case 0:
        return Write16(at + kCommandAt, random());
      case 1:
        return Write16(at + kSizeAt, random());
      default:
        return Write32(at + kLinkAt, random());
    }
  }
  template <class Random>
  void WriteByte(Random& random) {
    const auto byte = static_cast<std::uint8_t>(random() & 0xff);
    (void)port_->Write(Any(random) + random() % 16, &byte, 1);
  }
  template <class Random>
  void Scribble(Random& random) {
    const Iova at = Any(random);
    for (std::uint64_t i = 0; i < 4; ++i) Write32(at + i * 4, random());
  }
  template <class Random>
  void Replay(Random& random) {
    if (known_.empty()) return;
    Known old = known_[random() % known_.size()];
    old.header[1] |= 0x80;
    (void)port_->Write(old.at, old.header.data(), old.header.size());
  }
  // To the data of an RFD that it had once.
  template <class Random>
  void WriteLate(Random& random) {
    const Iova at = Any(random);
    Write32(at + 16 + random() % 2048, random());
  }

  Port* port_;
  Iova base_;
  Iova rfd_;
  bool running_ = false;
  bool stopped_ = true;
  bool claims_rnr_ = false;
  bool refuses_ = false;  // the next start
  std::vector<Known> known_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_HOSTILE_I8255X_H_
