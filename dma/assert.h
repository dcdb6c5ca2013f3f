// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DMA_ASSERT_H_
#define DMAMAP_DMA_ASSERT_H_

// DMAMAP_ASSERT(condition): checks a `REQUIRES:` line of a header.
//
// Off unless the includer asks for it, because a header of this library never
// ends a program on its own. Two ways to switch it on:
//   * define DMAMAP_ASSERT_HANDLER(text, file, line) before the first include:
//     it is called when a condition does not hold (a kernel names its panic);
//   * define DMAMAP_ENABLE_ASSERTS: a failed condition traps.
// Every header must be compiled with the same choice in one program.

#include "dma/version.h"

#if defined(DMAMAP_ASSERT_HANDLER)
#define DMAMAP_ASSERT(condition) \
  ((condition) ? (void)0         \
               : DMAMAP_ASSERT_HANDLER(#condition, __FILE__, __LINE__))
#elif defined(DMAMAP_ENABLE_ASSERTS)
#define DMAMAP_ASSERT(condition) ((condition) ? (void)0 : __builtin_trap())
#else
#define DMAMAP_ASSERT(condition) ((void)sizeof(!(condition)))
#endif

#endif  // DMAMAP_DMA_ASSERT_H_
