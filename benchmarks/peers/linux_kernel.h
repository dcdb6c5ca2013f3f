// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_LINUX_KERNEL_H_
#define DMAMAP_BENCHMARKS_PEERS_LINUX_KERNEL_H_

// The doors between C++ and the kernel's code: what linux_iova.h,
// linux_iotlb.h and linux_vduse.h call. No kernel header comes through here.
//
// Page numbers are of 4 KiB pages; 0 stands for a failed allocation. Byte
// ranges are inclusive.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// The calling thread is CPU `cpu` from now on; at most 15 of them.
void dmamap_linux_enter_cpu(unsigned cpu);

// --- iova.c. Thread-safe on threads that entered as different CPUs. ---
struct iova_domain;
struct iova_domain *dmamap_linux_iova_create(uint64_t first_page,
                                             unsigned cpus);
void dmamap_linux_iova_destroy(struct iova_domain *domain);
uint64_t dmamap_linux_iova_alloc_tree(struct iova_domain *domain,
                                      uint64_t pages, uint64_t last_page);
void dmamap_linux_iova_free_tree(struct iova_domain *domain, uint64_t page);
// The kernel's own two entry points, so that C++ pays one call as a kernel
// driver does.
unsigned long alloc_iova_fast(struct iova_domain *domain, unsigned long pages,
                              unsigned long last_page, bool flush);
void free_iova_fast(struct iova_domain *domain, unsigned long page,
                    unsigned long pages);

// --- iotlb.c. The plain calls are for one thread at a time; the locked ones
// take a spinlock around the same call, as VDUSE does. ---
struct dmamap_linux_iotlb;
struct dmamap_linux_iotlb *dmamap_linux_iotlb_create(void);
void dmamap_linux_iotlb_destroy(struct dmamap_linux_iotlb *tlb);
bool dmamap_linux_iotlb_add(struct dmamap_linux_iotlb *tlb, uint64_t first,
                            uint64_t last, uint64_t address, unsigned perm);
void dmamap_linux_iotlb_remove(struct dmamap_linux_iotlb *tlb, uint64_t first,
                               uint64_t last);
// The translated address; 0 for a miss.
uint64_t dmamap_linux_iotlb_lookup(struct dmamap_linux_iotlb *tlb,
                                   uint64_t iova);
bool dmamap_linux_iotlb_add_locked(struct dmamap_linux_iotlb *tlb,
                                   uint64_t first, uint64_t last,
                                   uint64_t address, unsigned perm);
void dmamap_linux_iotlb_remove_locked(struct dmamap_linux_iotlb *tlb,
                                      uint64_t first, uint64_t last);
uint64_t dmamap_linux_iotlb_lookup_locked(struct dmamap_linux_iotlb *tlb,
                                          uint64_t iova);
// Visits all mappings that overlap [first, last] in order; returns how many,
// and adds each one's address to *sum.
uint64_t dmamap_linux_iotlb_walk(struct dmamap_linux_iotlb *tlb, uint64_t first,
                                 uint64_t last, uint64_t *sum);

// --- VDUSE's iova_domain.c. Thread-safe like iova.c. Directions are those of
// the kernel: 0 both, 1 to the device, 2 from it. ---
struct vduse_iova_domain;
struct vduse_iova_domain *dmamap_linux_vduse_create(uint64_t iova_limit,
                                                    size_t bounce_bytes,
                                                    unsigned cpus);
// Every mapping must have been unmapped.
void dmamap_linux_vduse_destroy(struct vduse_iova_domain *domain);
// ~0 for failure.
uint64_t dmamap_linux_vduse_map(struct vduse_iova_domain *domain, void *buffer,
                                size_t bytes, int direction, bool skip_copy);
void dmamap_linux_vduse_unmap(struct vduse_iova_domain *domain, uint64_t iova,
                              size_t bytes, int direction, bool skip_copy);
void dmamap_linux_vduse_sync_for_cpu(struct vduse_iova_domain *domain,
                                     uint64_t iova, size_t bytes,
                                     int direction);
void dmamap_linux_vduse_sync_for_device(struct vduse_iova_domain *domain,
                                        uint64_t iova, size_t bytes,
                                        int direction);
// The bounce page that the device sees at `iova`; NULL when there is none.
void *dmamap_linux_vduse_device_page(struct vduse_iova_domain *domain,
                                     uint64_t iova);

#ifdef __cplusplus
}
#endif

#endif  // DMAMAP_BENCHMARKS_PEERS_LINUX_KERNEL_H_
