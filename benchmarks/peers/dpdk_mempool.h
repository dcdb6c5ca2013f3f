// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_DPDK_MEMPOOL_H_
#define DMAMAP_BENCHMARKS_PEERS_DPDK_MEMPOOL_H_

// DPDK's rte_mempool as a free list of blocks whose addresses stand for pages:
// 8191 objects of 64 bytes behind a cache of 256 on each core, which is how
// DPDK programs keep packet buffers.
//
// Threads: each registers itself with DPDK while it uses the pool, which gives
// it a core number and thus a cache.

#include <rte_lcore.h>
#include <rte_mempool.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "benchmarks/peers/dpdk_environment.h"
#include "benchmarks/peers/iova_subject.h"

namespace dmamap::peers {

class DpdkMempool {
 public:
  static constexpr bool kRanges = false;
  static constexpr bool kFreeElsewhere = true;

  static absl::StatusOr<std::unique_ptr<DpdkMempool>> Create(const IovaSpace&) {
    if (!DpdkIsUp()) return DpdkFailure("rte_eal_init");
    static std::atomic<unsigned> number{0};
    const std::string name = absl::StrCat("dmamap-", number.fetch_add(1));
    rte_mempool* pool =
        rte_mempool_create(name.c_str(), 8191, 64, 256, 0, nullptr, nullptr,
                           nullptr, nullptr, SOCKET_ID_ANY, 0);
    if (pool == nullptr) return DpdkFailure("rte_mempool_create");
    return std::unique_ptr<DpdkMempool>(new DpdkMempool(pool));
  }
  ~DpdkMempool() { rte_mempool_free(pool_); }
  DpdkMempool(const DpdkMempool&) = delete;
  DpdkMempool& operator=(const DpdkMempool&) = delete;

  absl::Status EnterThread(unsigned) {
    if (rte_thread_register() != 0) return DpdkFailure("rte_thread_register");
    return absl::OkStatus();
  }
  void LeaveThread(unsigned) {
    rte_mempool_cache_flush(rte_mempool_default_cache(pool_, rte_lcore_id()),
                            pool_);
    rte_thread_unregister();
  }

  // An empty pool fills again when its other users free.
  std::uint64_t Allocate(std::uint64_t, std::uint64_t) {
    void* object = nullptr;
    while (rte_mempool_get(pool_, &object) != 0) [[unlikely]] rte_pause();
    return reinterpret_cast<std::uintptr_t>(object);
  }
  bool Free(std::uint64_t page, std::uint64_t) {
    rte_mempool_put(pool_, reinterpret_cast<void*>(page));
    return true;
  }

 private:
  explicit DpdkMempool(rte_mempool* pool) : pool_(pool) {}

  rte_mempool* const pool_;
};

static_assert(IovaSubject<DpdkMempool>);

}  // namespace dmamap::peers

#endif  // DMAMAP_BENCHMARKS_PEERS_DPDK_MEMPOOL_H_
