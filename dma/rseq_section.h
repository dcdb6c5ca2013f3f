// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DMA_RSEQ_SECTION_H_
#define DMAMAP_DMA_RSEQ_SECTION_H_

// One restartable sequence: "if my CPU's owner word is 0, make it 1".
//
// A thread that has registered a struct rseq with Linux may name a range of its
// own instructions there (a descriptor of start, length and abort address). If
// the thread is preempted, migrated or gets a signal inside that range, the
// kernel sends it to the abort address instead. So a load, a test and a plain
// store at the very end of the range happen as one step as far as other threads
// of the same CPU can tell, and no other CPU's thread has the same number.
// Neither a lock prefix nor an exclusive store is needed.
//
// The struct and its rules are the kernel's ABI: include/uapi/linux/rseq.h, and
// of the signature in front of each abort address, <sys/rseq.h> of glibc.
//
// Two numbers can stand for "my CPU"; both are alone in their process among
// the threads that run at this moment, and change only where sections abort:
//   cpu_id   the CPU. Since Linux 4.18.
//   mm_cid   a "concurrency id" that the kernel keeps below the number of
//            threads and below the number of CPUs, and may change at any time,
//            also that of a pinned thread. Since Linux 6.3.
//
// DMAMAP_HAS_RSEQ is 1 on Linux, x86-64 and little-endian aarch64, with g++ or
// clang; elsewhere, and where DMAMAP_NO_RSEQ is defined, this header is empty.
// The aarch64 sequence has run only under user-mode emulation, where a test
// plays the kernel's part, never yet over a real kernel.
//
// A debugger that steps through the section aborts it each time: callers bound
// their retries.

#include <cstddef>
#include <cstdint>

#include "dma/version.h"

#if !defined(DMAMAP_NO_RSEQ) && defined(__linux__) && defined(__GNUC__) && \
    defined(__LP64__) &&                                                   \
    (defined(__x86_64__) || (defined(__aarch64__) && defined(__AARCH64EL__)))
#define DMAMAP_HAS_RSEQ 1
#else
#define DMAMAP_HAS_RSEQ 0
#endif

#if DMAMAP_HAS_RSEQ

namespace dmamap::inline v0 {
namespace rseq {

// What the kernel reads and writes, one for each thread.
struct alignas(32) Area {
  std::uint32_t cpu_id_start;
  std::uint32_t cpu_id;   // kUnregistered and below 2^32: no number
  std::uint64_t section;  // address of the descriptor that may be active
  std::uint32_t flags;    // always 0: each kind of interruption aborts
  std::uint32_t node_id;  // since Linux 6.3
  std::uint32_t mm_cid;   // since Linux 6.3
  std::uint32_t unused;   // the kernel takes no area under 32 bytes
};
static_assert(sizeof(Area) == 32);
static_assert(offsetof(Area, cpu_id) == 4 && offsetof(Area, section) == 8 &&
              offsetof(Area, mm_cid) == 24);

inline constexpr std::uint32_t kUnregistered = ~std::uint32_t{0};
inline constexpr std::uint32_t kRefused = kUnregistered - 1;

// The four bytes in front of each abort address: undefined instructions, so
// that no jump can end there by mistake. glibc registers threads with these.
#if defined(__x86_64__)
inline constexpr std::uint32_t kSignature = 0x53053053;  // of a ud1
#else
inline constexpr std::uint32_t kSignature = 0xd428bc00;  // brk #0x45e0
#endif

// Which of the two numbers: its byte offset in Area.
enum class Id : std::uint32_t { kCpu = 4, kConcurrency = 24 };

// Bytes from one owner word to the next.
inline constexpr std::size_t kStride = 64;

// What TakeOwnerWord returns besides a number that is below `limit`. No number
// of the kernel is this large, so "below limit" is the whole test for success.
inline constexpr std::uint64_t kTaken = ~std::uint64_t{0};
inline constexpr std::uint64_t kInterrupted = kTaken - 1;
// Anything else from `limit` up: a number that is too large, or kUnregistered
// or kRefused, no number.

inline std::uintptr_t ThreadPointer() {
  std::uintptr_t pointer;
#if defined(__x86_64__)
  asm("movq %%fs:0, %0" : "=r"(pointer));
#else
  asm("mrs %0, tpidr_el0" : "=r"(pointer));
#endif
  return pointer;
}

// Reads this thread's number n. If n < limit and the 32-bit word at
// words + n * kStride is 0, makes it 1 and returns n. Otherwise writes nothing
// and returns kTaken, kInterrupted or another value that is not below `limit`.
//
// `area` is the offset of the thread's Area from its thread pointer.
//
// Edges: the load of the word is an acquire and pairs with the release that
// made it 0. The store of 1 needs no order: only threads with the same number
// wait for it, and the kernel has a full barrier between two of those.
//
// The descriptor holds absolute addresses, so it is in a writable section (one
// relocation in a position-independent program) and in the COMDAT group of the
// function it belongs to ("?"). Afterwards Area::section is cleared: a library
// that carries this code may be unloaded.
#if defined(__x86_64__)
inline std::uint64_t TakeOwnerWord(std::ptrdiff_t area, Id id, void* words,
                                   std::uint64_t limit) {
  std::uint64_t number;
  std::uintptr_t word;
  asm volatile(
      ".pushsection __rseq_cs, \"aw?\"\n\t"
      ".balign 32\n"
      "1:\n\t"
      ".long 0, 0\n\t"  // version, flags
      ".quad 2f, 3f - 2f, 4f\n\t"
      ".popsection\n\t"
      "leaq 1b(%%rip), %[number]\n\t"
      "movq %[number], %%fs:8(%[area])\n"
      "2:\n\t"  // from here
      "movl %%fs:(%[area],%[id]), %k[number]\n\t"
      "cmpq %[limit], %[number]\n\t"
      "jae 3f\n\t"
      "cmpl $0, %%fs:4(%[area])\n\t"  // cpu_id below 0: not registered
      "jl 6f\n\t"
      "movq %[number], %[word]\n\t"
      "shlq $6, %[word]\n\t"
      "addq %[words], %[word]\n\t"
      "cmpl $0, (%[word])\n\t"
      "jne 5f\n\t"
      "movl $1, (%[word])\n"
      "3:\n\t"  // to here
      "movq $0, %%fs:8(%[area])\n\t"
      ".subsection 1\n\t"
      ".byte 0x0f, 0xb9, 0x3d\n\t"  // ud1 kSignature(%%rip), %%edi
      ".long 0x53053053\n"
      "4:\n\t"
      "movq $-2, %[number]\n\t"
      "jmp 3b\n"
      "5:\n\t"
      "movq $-1, %[number]\n\t"
      "jmp 3b\n"
      "6:\n\t"
      "movl $-1, %k[number]\n\t"
      "jmp 3b\n\t"
      ".previous"
      : [number] "=&r"(number), [word] "=&r"(word)
      : [area] "r"(area), [id] "r"(static_cast<std::uint64_t>(id)),
        [words] "r"(words), [limit] "r"(limit)
      : "cc", "memory");
  return number;
}
#else
inline std::uint64_t TakeOwnerWord(std::ptrdiff_t area, Id id, void* words,
                                   std::uint64_t limit) {
  const std::uintptr_t mine =
      ThreadPointer() + static_cast<std::uintptr_t>(area);
  std::uint64_t number;
  std::uintptr_t word;
  std::uint32_t scratch;
  asm volatile(
      ".pushsection __rseq_cs, \"aw?\"\n\t"
      ".balign 32\n"
      "1:\n\t"
      ".long 0, 0\n\t"  // version, flags
      ".quad 2f, 3f - 2f, 4f\n\t"
      ".popsection\n\t"
      "adrp %[number], 1b\n\t"
      "add %[number], %[number], :lo12:1b\n\t"
      "str %[number], [%[mine], #8]\n"
      "2:\n\t"  // from here
      "ldr %w[number], [%[mine], %[id]]\n\t"
      "ldr %w[scratch], [%[mine], #4]\n\t"
      // cpu_id below 0, not registered: the number becomes kUnregistered.
      "orr %w[number], %w[number], %w[scratch], asr #31\n\t"
      "cmp %[number], %[limit]\n\t"
      "b.hs 3f\n\t"
      "add %[word], %[words], %[number], lsl #6\n\t"
      "ldar %w[scratch], [%[word]]\n\t"
      "cbnz %w[scratch], 5f\n\t"
      "mov %w[scratch], #1\n\t"
      "str %w[scratch], [%[word]]\n"
      "3:\n\t"  // to here
      "str xzr, [%[mine], #8]\n\t"
      "b 6f\n\t"  // in line, because a conditional branch reaches 1 MiB only
      ".inst 0xd428bc00\n"
      "4:\n\t"
      "mov %[number], #-2\n\t"
      "b 3b\n"
      "5:\n\t"
      "mov %[number], #-1\n\t"
      "b 3b\n"
      "6:"
      : [number] "=&r"(number), [word] "=&r"(word), [scratch] "=&r"(scratch)
      : [mine] "r"(mine), [id] "r"(static_cast<std::uint64_t>(id)),
        [words] "r"(words), [limit] "r"(limit)
      : "cc", "memory");
  return number;
}
#endif

}  // namespace rseq
}  // namespace dmamap::inline v0

#endif  // DMAMAP_HAS_RSEQ

#endif  // DMAMAP_DMA_RSEQ_SECTION_H_
