// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_QEMU_QTEST_H_
#define DMAMAP_TESTING_QEMU_QTEST_H_

// Qtest: QEMU's test protocol, a line of text for each access: memory-mapped
// registers, I/O ports, interrupts. QEMU's main loop answers between two of a
// device's own steps, so an answer also orders the caller behind all that
// devices did before. An access takes 50 to 80 us.
//
// Every wait is bounded (`patience`). When QEMU does not answer, or says
// anything but OK, the protocol is over: reads give all ones from then on, as
// of a PCI device that is gone, and error() says what came instead.
//
// Source: QEMU, docs/devel/qtest.rst. For one thread at a time.

#include <poll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dma/version.h"
#include "testing/qemu/child_process.h"

namespace dmamap::inline v0 {

class Qtest {
 public:
  // An interrupt line that was asked for (InterceptInterrupts).
  struct Line {
    bool level = false;
    std::uint64_t raised = 0;  // times
  };

  Qtest() = default;
  void Open(FileDescriptor socket) { socket_ = std::move(socket); }
  void set_patience(std::chrono::milliseconds patience) {
    patience_ = patience;
  }

  bool ok() const { return socket_.ok() && error_.empty(); }
  const std::string& error() const { return error_; }
  std::uint64_t accesses() const { return accesses_; }

  // Physical addresses, naturally aligned. Width: uint8_t to uint64_t.
  template <class Width>
  Width Read(std::uint64_t at) {
    char line[64];
    std::snprintf(line, sizeof line, "read%c 0x%" PRIx64, Letter<Width>(), at);
    return static_cast<Width>(Ask(line));
  }
  template <class Width>
  void Write(std::uint64_t at, Width value) {
    char line[80];
    std::snprintf(line, sizeof line, "write%c 0x%" PRIx64 " 0x%" PRIx64,
                  Letter<Width>(), at, std::uint64_t{value});
    Ask(line);
  }
  std::uint32_t In32(std::uint16_t port) {
    char line[32];
    std::snprintf(line, sizeof line, "inl 0x%x", port);
    return static_cast<std::uint32_t>(Ask(line));
  }
  void Out32(std::uint16_t port, std::uint32_t value) {
    char line[48];
    std::snprintf(line, sizeof line, "outl 0x%x 0x%x", port, value);
    Ask(line);
  }

  // From now on the input lines of `device` (a QOM path or type, "ioapic") are
  // told to line() and to nobody else.
  void InterceptInterrupts(const std::string& device) {
    Ask("irq_intercept_in " + device);
  }
  // As of the last access.
  const Line& line(std::size_t number) {
    if (number >= lines_.size()) lines_.resize(number + 1);
    return lines_[number];
  }
  // An access without an effect: orders, and takes in what was told meanwhile.
  void Look() { (void)Read<std::uint8_t>(0); }
  // Takes in what was told, without an access; waits for at most so long.
  void Listen(std::chrono::milliseconds most) {
    pollfd ready{socket_.get(), POLLIN, 0};
    if (!ok() || poll(&ready, 1, static_cast<int>(most.count())) <= 0) return;
    do {
      const Answer told =
          ReadLine(std::chrono::steady_clock::now() + patience_);
      if (!told.ok) return;
      if (told.text.substr(0, 4) == "IRQ ") Note(told.text.substr(4));
    } while (buffer_.find('\n') != std::string::npos);
  }
  // PCI's lines of a q35, which come to its I/O APIC there; those below are the
  // timer's and other parts of a PC, which never rest.
  static constexpr std::size_t kFirstPciLine = 16;
  // True while a PCI line is raised: of a machine with one device, its line.
  bool IsRaised() const {
    for (std::size_t i = kFirstPciLine; i < lines_.size(); ++i) {
      if (lines_[i].level) return true;
    }
    return false;
  }
  // How often one was.
  std::uint64_t raised() const {
    std::uint64_t sum = 0;
    for (std::size_t i = kFirstPciLine; i < lines_.size(); ++i) {
      sum += lines_[i].raised;
    }
    return sum;
  }

 private:
  template <class Width>
  static constexpr char Letter() {
    static_assert(sizeof(Width) <= 8);
    return "?bw?l???q"[sizeof(Width)];
  }

  // Sends a line; returns the value of its answer, 0 if it has none.
  std::uint64_t Ask(std::string line) {
    ++accesses_;
    line += '\n';
    if (!ok() || !Send(line)) return UINT64_MAX;
    const auto end = std::chrono::steady_clock::now() + patience_;
    for (;;) {
      const Answer answer = ReadLine(end);
      if (!answer.ok) return UINT64_MAX;
      if (answer.text.substr(0, 4) == "IRQ ") {
        Note(answer.text.substr(4));
      } else if (answer.text.substr(0, 2) == "OK") {
        return answer.text.size() > 3
                   ? std::strtoull(answer.text.c_str() + 3, nullptr, 0)
                   : 0;
      } else {
        Fail(line + " was answered: " + answer.text);
        return UINT64_MAX;
      }
    }
  }
  bool Send(std::string_view line) {
    while (!line.empty()) {
      const ssize_t n =
          send(socket_.get(), line.data(), line.size(), MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return Fail("QEMU is gone (send)");
      line.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }
  struct Answer {
    bool ok = false;
    std::string text;
  };
  Answer ReadLine(std::chrono::steady_clock::time_point end) {
    for (;;) {
      const std::size_t length = buffer_.find('\n');
      if (length != std::string::npos) {
        Answer answer{true, buffer_.substr(0, length)};
        buffer_.erase(0, length + 1);
        return answer;
      }
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
          end - std::chrono::steady_clock::now());
      pollfd ready{socket_.get(), POLLIN, 0};
      const int waits = left.count() <= 0
                            ? 0
                            : poll(&ready, 1, static_cast<int>(left.count()));
      if (waits == 0) return {Fail("QEMU did not answer in time"), ""};
      char bytes[4096];
      const ssize_t n = recv(socket_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
      if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (n <= 0) return {Fail("QEMU is gone (recv)"), ""};
      buffer_.append(bytes, static_cast<std::size_t>(n));
    }
  }
  // "raise 5", "lower 5"
  void Note(const std::string& event) {
    const std::size_t space = event.find(' ');
    if (space == std::string::npos) return;
    const auto number = std::strtoul(event.c_str() + space, nullptr, 10);
    if (number >= 256) return;
    const bool level = event[0] == 'r';
    if (number >= lines_.size()) lines_.resize(number + 1);
    Line& l = lines_[number];
    if (level && !l.level) ++l.raised;
    l.level = level;
  }
  bool Fail(std::string why) {
    if (error_.empty()) error_ = std::move(why);
    return false;
  }

  FileDescriptor socket_;
  std::chrono::milliseconds patience_{10'000};
  std::string buffer_;
  std::string error_;
  std::vector<Line> lines_;
  std::uint64_t accesses_ = 0;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_QEMU_QTEST_H_
