// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_LINUX_PAGES_H_
#define DMAMAP_BOUNCE_LINUX_PAGES_H_

// The system calls that HugePages and MemfdPages are made of, as one small
// class, so that a test can make any of them fail.
//
// DMAMAP_HAS_LINUX_PAGES is 1 on Linux; elsewhere, and where
// DMAMAP_NO_LINUX_PAGES is defined, the class is there and every call fails, so
// that code which chooses at run time compiles everywhere. Each call is
// thread-safe; none of them is repeated when it fails.
//
// Facts: mmap(2), madvise(2), memfd_create(2), fallocate(2), fcntl(2).

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "bounce/carved_pages.h"
#include "dma/address.h"
#include "dma/version.h"

#if defined(__linux__) && !defined(DMAMAP_NO_LINUX_PAGES)
#define DMAMAP_HAS_LINUX_PAGES 1
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#else
#define DMAMAP_HAS_LINUX_PAGES 0
#endif

namespace dmamap::inline v0 {

// 2 MiB: a huge page on x86-64, and on aarch64 with pages of 4 KiB.
inline constexpr unsigned kHugePageShift = 21;

// The most that a source maps at a time, in bytes.
inline constexpr std::uint64_t kMaxPageCapacity = std::min(
    std::uint64_t{1} << 46,
    static_cast<std::uint64_t>(std::numeric_limits<std::size_t>::max() >> 2));

enum class HugeBacking : std::uint8_t {
  kPlain,        // pages of the usual size: the kernel was not to be persuaded
  kTransparent,  // huge pages when the kernel has them (MADV_HUGEPAGE)
  kHugetlb,      // huge pages from the reserved pool (MAP_HUGETLB)
};

#if DMAMAP_HAS_LINUX_PAGES

class SystemPageCalls {
 public:
  static constexpr bool kSupported = true;

  // --- Private memory: all zero, and no memory behind it until it is used ---

  // `bytes` bytes (whole huge pages) aligned to a huge page, or nullptr.
  // With kHugetlb they are taken from the pool at once. With kTransparent the
  // system is asked for huge pages; *backing becomes kPlain when it declines.
  std::byte* Map(std::uint64_t bytes, HugeBacking* backing) {
    if (*backing == HugeBacking::kHugetlb) {
      return MapAt(nullptr, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB |
                       static_cast<int>(kHugePageShift << MAP_HUGE_SHIFT),
                   -1);
    }
    std::byte* const memory = Reserve(bytes, PROT_READ | PROT_WRITE);
    if (memory != nullptr && *backing == HugeBacking::kTransparent &&
        ::madvise(memory, static_cast<std::size_t>(bytes), MADV_HUGEPAGE) !=
            0) {
      *backing = HugeBacking::kPlain;
    }
    return memory;
  }
  void Unmap(std::byte* memory, std::uint64_t bytes) {
    (void)::munmap(memory, static_cast<std::size_t>(bytes));
  }
  // Gives memory back; it stays mapped and reads zero. False: nothing happened
  // (memory that is locked, mlock(2)).
  bool Discard(std::byte* memory, std::uint64_t bytes) {
    return ::madvise(memory, static_cast<std::size_t>(bytes), MADV_DONTNEED) ==
           0;
  }

  // --- A file of memory ---

  // An empty memory file, closed on exec, that nobody can ever make shorter,
  // so that no other process turns our accesses into SIGBUS. -1.
  int CreateFile() {
    const int fd = ::memfd_create("dmamap", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return -1;
    if (::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) == 0) return fd;
    CloseFile(fd);
    return -1;
  }
  void CloseFile(int fd) { (void)::close(fd); }
  // The first `bytes` bytes (whole huge pages) of the file, whether it is that
  // long yet or not, aligned to a huge page; nullptr. Ends with Unmap.
  std::byte* MapFile(int fd, std::uint64_t bytes) {
    std::byte* const memory = Reserve(bytes, PROT_NONE);
    if (memory == nullptr) return nullptr;
    std::byte* const mapped = MapAt(memory, bytes, PROT_READ | PROT_WRITE,
                                    MAP_SHARED | MAP_FIXED, fd);
    if (mapped == nullptr) Unmap(memory, bytes);
    return mapped;
  }
  // Puts memory behind the range, and makes the file long enough. False: there
  // is none. Without this, touching the range could end in SIGBUS.
  bool BackFile(int fd, std::uint64_t offset, std::uint64_t bytes) {
    return ::fallocate(fd, 0, static_cast<off_t>(offset),
                       static_cast<off_t>(bytes)) == 0;
  }
  // Gives the range's memory back; it reads zero, in every process. False:
  // nothing happened.
  bool PunchFile(int fd, std::uint64_t offset, std::uint64_t bytes) {
    return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                       static_cast<off_t>(offset),
                       static_cast<off_t>(bytes)) == 0;
  }

 private:
  static std::byte* MapAt(void* at, std::uint64_t bytes, int protection,
                          int flags, int fd) {
    void* const memory =
        ::mmap(at, static_cast<std::size_t>(bytes), protection, flags, fd, 0);
    return memory == MAP_FAILED ? nullptr : static_cast<std::byte*>(memory);
  }

  // Address space aligned to a huge page: a huge page more than asked for, of
  // which both ends go back.
  std::byte* Reserve(std::uint64_t bytes, int protection) {
    constexpr std::uint64_t kHuge = std::uint64_t{1} << kHugePageShift;
    std::byte* const memory =
        MapAt(nullptr, bytes + kHuge, protection,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
    if (memory == nullptr) return nullptr;
    const std::uint64_t over = PhysAddrOf(memory).value() & (kHuge - 1);
    const std::uint64_t head = over == 0 ? 0 : kHuge - over;
    if (head != 0) Unmap(memory, head);
    Unmap(memory + head + bytes, kHuge - head);
    return memory + head;
  }
};

#else  // DMAMAP_HAS_LINUX_PAGES

class SystemPageCalls {
 public:
  static constexpr bool kSupported = false;
  std::byte* Map(std::uint64_t, HugeBacking*) { return nullptr; }
  void Unmap(std::byte*, std::uint64_t) {}
  bool Discard(std::byte*, std::uint64_t) { return false; }
  int CreateFile() { return -1; }
  void CloseFile(int) {}
  std::byte* MapFile(int, std::uint64_t) { return nullptr; }
  bool BackFile(int, std::uint64_t, std::uint64_t) { return false; }
  bool PunchFile(int, std::uint64_t, std::uint64_t) { return false; }
};

#endif  // DMAMAP_HAS_LINUX_PAGES

struct SystemPagePolicy : PagePolicy {
  using Calls = SystemPageCalls;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_BOUNCE_LINUX_PAGES_H_
