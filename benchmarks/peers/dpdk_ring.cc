// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// DPDK's poll-mode drivers as RingSides: a burst is received into buffers of a
// packet pool (a cache of 256 on the core, as DPDK programs have it) and the
// buffers are given back in one call.
//
//   dpdk-null         net_null, which takes a buffer from the pool for each
//                     frame, sets its length, and stores no byte: a burst
//                     without a device or a descriptor
//   dpdk-virtio-user  the virtio driver over a split or packed queue; its
//                     device is DPDK's vhost, in this process, which copies
//                     each frame (not timed)
//
// Each side has ports of its own until the program ends; there is one side for
// a workload.

#include <rte_bus_vdev.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "benchmarks/peers/dpdk_environment.h"
#include "benchmarks/peers/peer_sessions.h"
#include "benchmarks/peers/ring_side.h"

namespace dmamap::peers {
namespace {

constexpr std::size_t kMaxBurst = 64;
constexpr std::uint16_t kEntries = 256;

std::string Numbered(absl::string_view name) {
  static std::atomic<unsigned> number{0};
  return absl::StrCat(name, number.fetch_add(1));
}

// Also gives this thread a core number, and thus a cache of each pool's.
absl::StatusOr<rte_mempool*> MakePool() {
  if (rte_lcore_id() == LCORE_ID_ANY && rte_thread_register() != 0) {
    return DpdkFailure("rte_thread_register");
  }
  rte_mempool* const pool =
      rte_pktmbuf_pool_create(Numbered("ring-").c_str(), 4095, 256, 0,
                              2048 + RTE_PKTMBUF_HEADROOM, SOCKET_ID_ANY);
  if (pool == nullptr) return DpdkFailure("rte_pktmbuf_pool_create");
  return pool;
}

// One port with one queue each way, started.
absl::StatusOr<std::uint16_t> MakePort(const std::string& device,
                                       const std::string& arguments,
                                       rte_mempool* pool) {
  if (rte_vdev_init(device.c_str(), arguments.c_str()) != 0) {
    return DpdkFailure("rte_vdev_init");
  }
  std::uint16_t port = 0;
  rte_eth_conf conf{};
  if (rte_eth_dev_get_port_by_name(device.c_str(), &port) != 0 ||
      rte_eth_dev_configure(port, 1, 1, &conf) != 0 ||
      rte_eth_rx_queue_setup(port, 0, kEntries, 0, nullptr, pool) != 0 ||
      rte_eth_tx_queue_setup(port, 0, kEntries, 0, nullptr) != 0 ||
      rte_eth_dev_start(port) != 0) {
    return DpdkFailure("rte_eth_dev_start");
  }
  return port;
}

std::size_t BytesOf(absl::string_view workload) {
  return absl::StartsWith(workload, "rx1500") ? 1500 : 64;
}

class DpdkReceiver : public RingSide {
 public:
  DpdkReceiver(std::uint16_t port, std::size_t bytes)
      : port_(port), bytes_(bytes) {}

  bool Device(std::size_t) override { return true; }
  std::size_t Driver(std::size_t n) override {
    std::array<rte_mbuf*, kMaxBurst> frames;
    std::size_t done = 0;
    while (done < n) {
      const std::uint16_t got = rte_eth_rx_burst(
          port_, 0, frames.data(), static_cast<std::uint16_t>(n - done));
      if (got == 0) break;
      for (std::uint16_t i = 0; i < got; ++i) {
        wrong_ += rte_pktmbuf_data_len(frames[i]) != bytes_;
      }
      rte_pktmbuf_free_bulk(frames.data(), got);
      done += got;
    }
    return done;
  }
  std::uint64_t failures() override { return wrong_; }

 private:
  const std::uint16_t port_;
  const std::size_t bytes_;
  std::uint64_t wrong_ = 0;
};

class DpdkVirtioReceiver final : public DpdkReceiver {
 public:
  DpdkVirtioReceiver(std::uint16_t host, std::uint16_t guest, rte_mempool* pool,
                     std::size_t bytes)
      : DpdkReceiver(guest, bytes), host_(host), pool_(pool), bytes_(bytes) {}

  bool Device(std::size_t n) override {
    std::array<rte_mbuf*, kMaxBurst> frames;
    if (rte_pktmbuf_alloc_bulk(pool_, frames.data(),
                               static_cast<unsigned>(n)) != 0) {
      return false;
    }
    for (std::size_t i = 0; i < n; ++i) {
      frames[i]->data_len = static_cast<std::uint16_t>(bytes_);
      frames[i]->pkt_len = static_cast<std::uint32_t>(bytes_);
    }
    std::size_t sent = 0;
    for (int i = 0; i < 1000 && sent < n; ++i) {
      sent += rte_eth_tx_burst(host_, 0, &frames[sent],
                               static_cast<std::uint16_t>(n - sent));
    }
    if (sent != n) {
      rte_pktmbuf_free_bulk(&frames[sent], static_cast<unsigned>(n - sent));
    }
    return sent == n;
  }

 private:
  const std::uint16_t host_;
  rte_mempool* const pool_;
  const std::size_t bytes_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RingSide>> MakeDpdkNullRing(
    absl::string_view workload) {
  if (!DpdkIsUp()) return DpdkFailure("rte_eal_init");
  const auto pool = MakePool();
  if (!pool.ok()) return pool.status();
  const auto port =
      MakePort(Numbered("net_null"),
               absl::StrCat("size=", BytesOf(workload), ",copy=0"), *pool);
  if (!port.ok()) return port.status();
  return std::make_unique<DpdkReceiver>(*port, BytesOf(workload));
}

absl::StatusOr<std::unique_ptr<RingSide>> MakeDpdkVirtioRing(
    absl::string_view workload) {
  if (!DpdkIsUp()) return DpdkFailure("rte_eal_init");
  const auto host_pool = MakePool();
  if (!host_pool.ok()) return host_pool.status();
  const auto guest_pool = MakePool();
  if (!guest_pool.ok()) return guest_pool.status();
  std::string folder = "/tmp/dmamap-vhost-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) {
    return absl::InternalError("no folder for vhost's socket");
  }
  const std::string socket = folder + "/socket";
  const auto host =
      MakePort(Numbered("net_vhost"),
               absl::StrCat("iface=", socket, ",queues=1"), *host_pool);
  absl::StatusOr<std::uint16_t> guest = absl::UnknownError("");
  if (host.ok()) {
    const bool packed = absl::EndsWith(workload, "packed");
    guest = MakePort(Numbered("net_virtio_user"),
                     absl::StrCat("path=", socket,
                                  ",queues=1,mrg_rxbuf=0,in_order=0,packed_vq=",
                                  packed ? 1 : 0),
                     *guest_pool);
  }
  unlink(socket.c_str());
  rmdir(folder.c_str());
  if (!host.ok()) return host.status();
  if (!guest.ok()) return guest.status();
  auto side = std::make_unique<DpdkVirtioReceiver>(*host, *guest, *host_pool,
                                                   BytesOf(workload));
  // The two shake hands on a thread of vhost's.
  for (int i = 0; i < 2000 && !side->Device(1); ++i) usleep(1000);
  for (int i = 0; i < 2000 && side->Driver(1) == 0; ++i) usleep(1000);
  return side;
}

}  // namespace dmamap::peers
