// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// See linux_kernel.h. The headers in angle brackets are the kernel's own,
// unpacked beside this file's objects at build time.

#include "benchmarks/peers/linux_kernel.h"

#include <linux/iova.h>
#include <linux/slab.h>
#include <linux/vhost_iotlb.h>
// VDUSE keeps its header beside its source.
#include <vdpa_user/iova_domain.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void get_caches(void) {
  if (iova_cache_get() != 0 || vduse_domain_init() != 0) abort();
}

void dmamap_linux_enter_cpu(unsigned cpu) { dmamap_shim_enter_cpu(cpu); }

struct iova_domain *dmamap_linux_iova_create(uint64_t first_page,
                                             unsigned cpus) {
  struct iova_domain *domain;
  pthread_once(&once, get_caches);
  dmamap_shim_need_cpus(cpus);
  domain = shim_zeroed_lines(ALIGN(sizeof(*domain), 64));
  if (domain == NULL) return NULL;
  init_iova_domain(domain, PAGE_SIZE, first_page);
  if (iova_domain_init_rcaches(domain) != 0) {
    shim_free(domain);
    return NULL;
  }
  return domain;
}

void dmamap_linux_iova_destroy(struct iova_domain *domain) {
  put_iova_domain(domain);
  shim_free(domain);
}

uint64_t dmamap_linux_iova_alloc_tree(struct iova_domain *domain,
                                      uint64_t pages, uint64_t last_page) {
  const struct iova *range = alloc_iova(domain, pages, last_page, true);
  return range == NULL ? 0 : range->pfn_lo;
}

void dmamap_linux_iova_free_tree(struct iova_domain *domain, uint64_t page) {
  free_iova(domain, page);
}

// The lock on a line of its own: no false sharing between it and the root.
struct dmamap_linux_iotlb {
  struct vhost_iotlb tlb;
  spinlock_t lock __attribute__((aligned(64)));
};

struct dmamap_linux_iotlb *dmamap_linux_iotlb_create(void) {
  struct dmamap_linux_iotlb *tlb =
      shim_zeroed_lines(sizeof(struct dmamap_linux_iotlb));
  if (tlb == NULL) return NULL;
  vhost_iotlb_init(&tlb->tlb, INT_MAX, 0);
  spin_lock_init(&tlb->lock);
  return tlb;
}

void dmamap_linux_iotlb_destroy(struct dmamap_linux_iotlb *tlb) {
  vhost_iotlb_reset(&tlb->tlb);
  shim_free(tlb);
}

bool dmamap_linux_iotlb_add(struct dmamap_linux_iotlb *tlb, uint64_t first,
                            uint64_t last, uint64_t address, unsigned perm) {
  return vhost_iotlb_add_range(&tlb->tlb, first, last, address, perm) == 0;
}

void dmamap_linux_iotlb_remove(struct dmamap_linux_iotlb *tlb, uint64_t first,
                               uint64_t last) {
  vhost_iotlb_del_range(&tlb->tlb, first, last);
}

uint64_t dmamap_linux_iotlb_lookup(struct dmamap_linux_iotlb *tlb,
                                   uint64_t iova) {
  const struct vhost_iotlb_map *map =
      vhost_iotlb_itree_first(&tlb->tlb, iova, iova);
  return map == NULL ? 0 : map->addr + (iova - map->start);
}

bool dmamap_linux_iotlb_add_locked(struct dmamap_linux_iotlb *tlb,
                                   uint64_t first, uint64_t last,
                                   uint64_t address, unsigned perm) {
  bool added;
  spin_lock(&tlb->lock);
  added = dmamap_linux_iotlb_add(tlb, first, last, address, perm);
  spin_unlock(&tlb->lock);
  return added;
}

void dmamap_linux_iotlb_remove_locked(struct dmamap_linux_iotlb *tlb,
                                      uint64_t first, uint64_t last) {
  spin_lock(&tlb->lock);
  vhost_iotlb_del_range(&tlb->tlb, first, last);
  spin_unlock(&tlb->lock);
}

uint64_t dmamap_linux_iotlb_lookup_locked(struct dmamap_linux_iotlb *tlb,
                                          uint64_t iova) {
  uint64_t address;
  spin_lock(&tlb->lock);
  address = dmamap_linux_iotlb_lookup(tlb, iova);
  spin_unlock(&tlb->lock);
  return address;
}

uint64_t dmamap_linux_iotlb_walk(struct dmamap_linux_iotlb *tlb, uint64_t first,
                                 uint64_t last, uint64_t *sum) {
  uint64_t count = 0;
  struct vhost_iotlb_map *map = vhost_iotlb_itree_first(&tlb->tlb, first, last);
  while (map != NULL) {
    ++count;
    *sum += map->addr;
    map = vhost_iotlb_itree_next(map, first, last);
  }
  return count;
}

struct vduse_iova_domain *dmamap_linux_vduse_create(uint64_t iova_limit,
                                                    size_t bounce_bytes,
                                                    unsigned cpus) {
  pthread_once(&once, get_caches);
  dmamap_shim_need_cpus(cpus);
  return vduse_domain_create(iova_limit, bounce_bytes);
}

void dmamap_linux_vduse_destroy(struct vduse_iova_domain *domain) {
  // The bounce mapping in the IOTLB holds a reference to the domain's file.
  vduse_domain_reset_bounce_map(domain);
  vduse_domain_destroy(domain);
}

static unsigned long attributes(bool skip_copy) {
  return skip_copy ? DMA_ATTR_SKIP_CPU_SYNC : 0;
}

uint64_t dmamap_linux_vduse_map(struct vduse_iova_domain *domain, void *buffer,
                                size_t bytes, int direction, bool skip_copy) {
  return vduse_domain_map_page(
      domain, pfn_to_page((unsigned long)buffer >> PAGE_SHIFT),
      offset_in_page(buffer), bytes, (enum dma_data_direction)direction,
      attributes(skip_copy));
}

void dmamap_linux_vduse_unmap(struct vduse_iova_domain *domain, uint64_t iova,
                              size_t bytes, int direction, bool skip_copy) {
  vduse_domain_unmap_page(domain, iova, bytes,
                          (enum dma_data_direction)direction,
                          attributes(skip_copy));
}

void dmamap_linux_vduse_sync_for_cpu(struct vduse_iova_domain *domain,
                                     uint64_t iova, size_t bytes,
                                     int direction) {
  vduse_domain_sync_single_for_cpu(domain, iova, bytes,
                                   (enum dma_data_direction)direction);
}

void dmamap_linux_vduse_sync_for_device(struct vduse_iova_domain *domain,
                                        uint64_t iova, size_t bytes,
                                        int direction) {
  vduse_domain_sync_single_for_device(domain, iova, bytes,
                                      (enum dma_data_direction)direction);
}

void *dmamap_linux_vduse_device_page(struct vduse_iova_domain *domain,
                                     uint64_t iova) {
  if (iova >= domain->bounce_size) return NULL;
  return domain->bounce_maps[iova >> BOUNCE_MAP_SHIFT].bounce_page;
}
