// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DMA_RSEQ_REGISTRATION_H_
#define DMAMAP_DMA_RSEQ_REGISTRATION_H_

// Who registered this thread's struct rseq with the kernel, and where is it?
//
//   kLibc   glibc 2.35 and newer registers every thread and says where by
//           __rseq_offset and __rseq_size, which are weak symbols here: a libc
//           without them links.
//   kOwn    otherwise this library asks the kernel itself, for each thread at
//           its first use, and takes it back before the thread exits.
//   kNone   the kernel has no rseq (before 4.18, a sandbox that filters it, an
//           emulator), or another library of the program has registered.
//
// Nothing is decided when the program is built. Empty without DMAMAP_HAS_RSEQ.

#include "dma/rseq_section.h"

#if DMAMAP_HAS_RSEQ

#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>

namespace dmamap::inline v0 {
namespace rseq {

extern "C" {
// glibc's, under names that are not reserved. Null addresses without glibc.
extern const std::ptrdiff_t dmamap_libc_rseq_offset __asm__("__rseq_offset")
    __attribute__((weak));
extern const unsigned dmamap_libc_rseq_size __asm__("__rseq_size")
    __attribute__((weak));
}

// A thread's own registration, where the libc has none.
class OwnThread {
 public:
  // Registers the calling thread if it is not. False when the kernel refuses,
  // and once the thread's thread-local objects have been destroyed: the area
  // may be unmapped before the thread is quite gone. Leaves errno alone.
  static bool Join() {
    if (area_.cpu_id == kRefused) return false;
    if (area_.cpu_id != kUnregistered) return true;
    thread_local Leaver leaver;
    (void)&leaver;
    if (Call(0)) return true;
    area_.cpu_id = kRefused;
    return false;
  }

  // Of the calling thread's area, from its thread pointer, as glibc counts.
  static std::ptrdiff_t Offset() {
    return static_cast<std::ptrdiff_t>(
        reinterpret_cast<std::uintptr_t>(&area_) - ThreadPointer());
  }

 private:
  struct Leaver {
    ~Leaver() {
      if (area_.cpu_id < kRefused) Call(kUnregister);
      area_.cpu_id = kRefused;
    }
  };

  static constexpr int kUnregister = 1;

  static bool Call(int flags) {
#if defined(SYS_rseq)
    constexpr long kNumber = SYS_rseq;
#elif defined(__x86_64__)
    constexpr long kNumber = 334;
#else
    constexpr long kNumber = 293;
#endif
    const int saved = errno;
    const bool good =
        syscall(kNumber, &area_, sizeof(area_), flags, kSignature) == 0;
    errno = saved;
    return good;
  }

  // constinit and trivially destructible: read without a guard, and valid for
  // as long as the thread runs. The kernel writes it behind the compiler's
  // back, hence volatile.
  static inline constinit thread_local volatile Area area_ = {
      .cpu_id_start = 0,
      .cpu_id = kUnregistered,
      .section = 0,
      .flags = 0,
      .node_id = 0,
      .mm_cid = 0,
      .unused = 0};
};

enum class Source : std::uint8_t { kNone, kLibc, kOwn };

// The answer for this process, asked on the calling thread.
inline Source FindSource() {
  if (&dmamap_libc_rseq_size != nullptr &&
      &dmamap_libc_rseq_offset != nullptr && dmamap_libc_rseq_size != 0) {
    return Source::kLibc;
  }
  return OwnThread::Join() ? Source::kOwn : Source::kNone;
}

// Of every thread's area, from its thread pointer. REQUIRES: kLibc.
inline std::ptrdiff_t LibcAreaOffset() { return dmamap_libc_rseq_offset; }

// Whether the kernel fills in mm_cid. It lies in the 32 bytes that the kernel
// fills for every registration, also where glibc's __rseq_size says 20.
inline bool HasConcurrencyId() {
  constexpr unsigned long kFeatureSize = 27;  // AT_RSEQ_FEATURE_SIZE
  return getauxval(kFeatureSize) >= offsetof(Area, mm_cid) + 4;
}

// The end of a list of CPU numbers ("0-3,8-11" gives 12); 0 for another text.
inline std::size_t EndOfCpuList(const char* text) {
  constexpr std::size_t kEnough = std::size_t{1} << 20;
  std::size_t end = 0;
  while (*text >= '0' && *text <= '9') {
    std::size_t number = 0;
    for (; *text >= '0' && *text <= '9'; ++text) {
      number = number * 10 + static_cast<std::size_t>(*text - '0');
      if (number > kEnough) return 0;
    }
    if (number >= end) end = number + 1;
    if (*text == '-' || *text == ',') ++text;
  }
  return *text == '\n' || *text == '\0' ? end : 0;
}

// One more than the largest CPU number that this machine can ever have; a
// guess, the number of CPUs, where the kernel does not tell.
inline std::size_t PossibleCpus() {
  std::size_t end = 0;
  if (std::FILE* file = std::fopen("/sys/devices/system/cpu/possible", "re")) {
    char text[256];
    if (std::fgets(text, sizeof(text), file) != nullptr) {
      end = EndOfCpuList(text);
    }
    std::fclose(file);
  }
  if (end != 0) return end;
  const long count = sysconf(_SC_NPROCESSORS_CONF);
  return count > 0 ? static_cast<std::size_t>(count) : 1;
}

}  // namespace rseq
}  // namespace dmamap::inline v0

#endif  // DMAMAP_HAS_RSEQ

#endif  // DMAMAP_DMA_RSEQ_REGISTRATION_H_
