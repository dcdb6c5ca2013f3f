// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_QEMU_MACHINE_H_
#define DMAMAP_TESTING_QEMU_MACHINE_H_

// QemuMachine: QEMU's device models without a guest. A q35 with a halted CPU,
// its memory mapped here, its registers reached by the test protocol.
//
//   QemuMachine machine;
//   Wire wire;
//   wire.Open();
//   machine.Start({.arguments = {"-netdev", wire.Netdev("n"), "-device",
//                                "i82559er,netdev=n,addr=4"},
//                  .inherited = {wire.far_end()}});
//   if (!machine.ok()) puts(machine.error().c_str());
//
// Leaves nothing behind, however the test ends: QEMU dies with this process
// (child_process.h), and memory, firmware and sockets have no names, so that
// there are no files, and machines in parallel know nothing of each other.
//
// QEMU 7.2 or newer. Always with TCG: the CPU executes one HLT. (With -S the
// network would not deliver.) For one thread at a time; `ram()` is memory that
// the devices' models write to at any time.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"
#include "testing/qemu/child_process.h"
#include "testing/qemu/qtest.h"
#include "testing/qemu/wire.h"

namespace dmamap::inline v0 {

struct QemuOptions {
  std::uint64_t ram_bytes = std::uint64_t{64} << 20;  // whole MiB
  std::vector<std::string> arguments = {};            // devices
  std::vector<int> inherited = {};  // descriptors that they name
};

class QemuMachine {
 public:
  QemuMachine() = default;
  QemuMachine(const QemuMachine&) = delete;
  QemuMachine& operator=(const QemuMachine&) = delete;
  ~QemuMachine() {
    child_.Kill();
    if (ram_ != nullptr) munmap(ram_, ram_bytes_);
  }

  // The program, from $DMAMAP_QEMU or PATH; empty when there is none.
  static std::string Program() {
    const char* const named = std::getenv("DMAMAP_QEMU");
    return named != nullptr ? named : FindProgram("qemu-system-x86_64");
  }
  static const char* MissingText() {
    return "qemu-system-x86_64 is not installed; Debian has it in the package "
           "qemu-system-x86 (or set DMAMAP_QEMU to its path)";
  }

  // kUnsupported: QEMU is missing; kNoMemory; kDevice: it does not start.
  // error() says more. kBusy the second time.
  Result<void> Start(const QemuOptions& options);

  bool ok() const { return error_.empty() && qtest_.ok(); }
  std::string error() const { return error_.empty() ? qtest_.error() : error_; }

  Qtest& qtest() { return qtest_; }
  // All memory, from physical address 0 on.
  std::span<std::byte> ram() const {
    return {ram_, static_cast<std::size_t>(ram_bytes_)};
  }
  // The same as a range of pointers.
  PhysRange ram_range() const {
    return *PhysRange::FromSize(PhysAddrOf(ram_), ram_bytes_);
  }
  pid_t pid() const { return child_.pid(); }

 private:
  static FileDescriptor Memory(const char* name, std::uint64_t bytes) {
    FileDescriptor file(memfd_create(name, MFD_CLOEXEC));
    if (file.ok() && ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) {
      file.Close();
    }
    return file;
  }
  static std::string PathOf(const FileDescriptor& file) {
    return "/proc/self/fd/" + std::to_string(file.get());
  }
  // 64 KiB that end at 4 GiB: at the reset vector, cli and hlt for ever.
  static bool WriteFirmware(const FileDescriptor& file) {
    std::vector<unsigned char> bytes(65536, 0xf4);
    const std::array<unsigned char, 4> start = {0xfa, 0xf4, 0xeb, 0xfd};
    for (std::size_t i = 0; i < start.size(); ++i) bytes[0xfff0 + i] = start[i];
    return write(file.get(), bytes.data(), bytes.size()) ==
           static_cast<ssize_t>(bytes.size());
  }
  Result<void> Fail(Error error, std::string why) {
    error_ = std::move(why);
    return error;
  }
  std::vector<std::string> Arguments(const QemuOptions& options,
                                     const std::string& program,
                                     const FileDescriptor& memory,
                                     const FileDescriptor& firmware,
                                     int qtest) const {
    const std::string size = std::to_string(options.ram_bytes >> 20) + "M";
    std::vector<std::string> a = {program,
                                  "-nodefaults",
                                  "-no-user-config",
                                  "-display",
                                  "none",
                                  "-machine",
                                  "q35,memory-backend=ram,kernel-irqchip=off",
                                  "-accel",
                                  "tcg",
                                  "-m",
                                  size,
                                  "-object",
                                  "memory-backend-file,id=ram,share=on,size=" +
                                      size + ",mem-path=" + PathOf(memory),
                                  "-bios",
                                  PathOf(firmware),
                                  "-chardev",
                                  "socket,id=qtest,fd=" + std::to_string(qtest),
                                  "-qtest",
                                  "chardev:qtest",
                                  "-qtest-log",
                                  "/dev/null"};
    a.insert(a.end(), options.arguments.begin(), options.arguments.end());
    return a;
  }

  ChildProcess child_;
  Qtest qtest_;
  std::byte* ram_ = nullptr;
  std::uint64_t ram_bytes_ = 0;
  std::string error_;
};

inline Result<void> QemuMachine::Start(const QemuOptions& options) {
  if (ram_ != nullptr) return Error::kBusy;
  const std::string program = Program();
  if (program.empty()) return Fail(Error::kUnsupported, MissingText());
  const FileDescriptor memory = Memory("dmamap-ram", options.ram_bytes);
  const FileDescriptor firmware = Memory("dmamap-firmware", 0);
  int ends[2];
  if (!memory.ok() || !firmware.ok() || !WriteFirmware(firmware) ||
      socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return Fail(Error::kNoMemory, "no memory for the machine");
  }
  FileDescriptor here(ends[0]);
  FileDescriptor there(ends[1]);
  void* const ram = mmap(nullptr, options.ram_bytes, PROT_READ | PROT_WRITE,
                         MAP_SHARED, memory.get(), 0);
  if (ram == MAP_FAILED)
    return Fail(Error::kNoMemory, "no room for the memory");
  ram_ = static_cast<std::byte*>(ram);
  ram_bytes_ = options.ram_bytes;
  std::vector<int> inherited = options.inherited;
  inherited.insert(inherited.end(),
                   {memory.get(), firmware.get(), there.get()});
  const auto started = child_.Start(
      Arguments(options, program, memory, firmware, there.get()), inherited);
  if (!started.ok()) return Fail(started.error(), "no process for QEMU");
  there.Close();  // so that QEMU's end is seen
  qtest_.Open(std::move(here));
  qtest_.InterceptInterrupts("ioapic");
  return qtest_.ok()
             ? Ok()
             : Fail(Error::kDevice, "QEMU does not start: " + qtest_.error());
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_QEMU_MACHINE_H_
