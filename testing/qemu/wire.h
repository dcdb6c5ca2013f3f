// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_QEMU_WIRE_H_
#define DMAMAP_TESTING_QEMU_WIRE_H_

// Wire: the far end of a NIC's cable, as a pair of datagram sockets. A datagram
// is a frame, without its checksum. Lossless: who cannot send waits (QEMU), or
// is told (Send). For one thread at a time.

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "dma/result.h"
#include "dma/version.h"
#include "testing/qemu/child_process.h"

namespace dmamap::inline v0 {

class Wire {
 public:
  // kNoMemory.
  Result<void> Open() {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends) != 0) {
      return Error::kNoMemory;
    }
    here_ = FileDescriptor(ends[0]);
    there_ = FileDescriptor(ends[1]);
    const int bytes = 1 << 20;
    for (const int end : ends) {
      setsockopt(end, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    }
    return Ok();
  }
  // What QEMU is to inherit, and the -netdev of that name.
  int far_end() const { return there_.get(); }
  std::string Netdev(const std::string& name) const {
    return "dgram,id=" + name +
           ",local.type=fd,local.str=" + std::to_string(far_end());
  }
  // Once QEMU has it: else its end would not be seen.
  void CloseFarEnd() { there_.Close(); }

  // False: there is no room for it now.
  bool Send(std::span<const std::byte> frame) {
    return send(here_.get(), frame.data(), frame.size(),
                MSG_DONTWAIT | MSG_NOSIGNAL) ==
           static_cast<ssize_t>(frame.size());
  }
  // Bytes of the next frame, which is in `into` as far as it fits; 0: there is
  // none now.
  std::size_t Receive(std::span<std::byte> into) {
    const ssize_t n =
        recv(here_.get(), into.data(), into.size(), MSG_DONTWAIT | MSG_TRUNC);
    return n <= 0 ? 0 : static_cast<std::size_t>(n);
  }

 private:
  FileDescriptor here_;
  FileDescriptor there_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_QEMU_WIRE_H_
