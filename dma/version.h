// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DMA_VERSION_H_
#define DMAMAP_DMA_VERSION_H_

// The version of the headers, and the one check of the language level.
//
// Everything lives in `namespace dmamap::inline v0`: two drivers that carry two
// major versions of these headers link into one program without a clash.

#define DMAMAP_VERSION_MAJOR 0
#define DMAMAP_VERSION_MINOR 1
#define DMAMAP_VERSION_PATCH 0

#if !defined(__cplusplus) || __cplusplus < 202002L
#error "dmamap needs C++20: compile with -std=c++20 or newer"
#endif

#endif  // DMAMAP_DMA_VERSION_H_
