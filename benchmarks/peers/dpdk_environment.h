// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_DPDK_ENVIRONMENT_H_
#define DMAMAP_BENCHMARKS_PEERS_DPDK_ENVIRONMENT_H_

// DPDK's environment, in this process's memory: no huge pages, no device, no
// files.

#include <rte_eal.h>
#include <rte_errno.h>
#include <sched.h>

#include <array>
#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace dmamap::peers {

inline absl::Status DpdkFailure(const char* call) {
  return absl::InternalError(absl::StrCat(call, ": ", rte_strerror(rte_errno)));
}

// DPDK ties the thread that calls this to one CPU; the thread is set free
// again, or all threads that it starts later would share that CPU.
inline int InitDpdk() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return -1;
  std::size_t cpu = 0;
  while (!CPU_ISSET(cpu, &allowed)) ++cpu;
  static std::string lcores = absl::StrCat("--lcores=0@", cpu);
  // --no-huge excludes --in-memory; --no-shconf keeps it off the disk.
  static std::array<const char*, 9> arguments = {
      "benchmark",      "--no-huge",         "--no-shconf", "--no-pci",
      "--no-telemetry", "--log-level=error", "-m",          "256",
      lcores.c_str()};
  const int result = rte_eal_init(static_cast<int>(arguments.size()),
                                  const_cast<char**>(arguments.data()));
  sched_setaffinity(0, sizeof(allowed), &allowed);
  return result;
}

// At most once in a process.
inline bool DpdkIsUp() {
  static const int initialised = InitDpdk();
  return initialised >= 0;
}

}  // namespace dmamap::peers

#endif  // DMAMAP_BENCHMARKS_PEERS_DPDK_ENVIRONMENT_H_
