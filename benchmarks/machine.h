// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_MACHINE_H_
#define DMAMAP_BENCHMARKS_MACHINE_H_

// What a result must be labelled with to mean anything later.

#include <string>

namespace dmamap::bench {

// "AMD EPYC, 2 CPUs"; "unknown CPU, ..." where the system does not say.
std::string MachineName();
// "g++ 12.2.0"
std::string CompilerName();
// The commit of the workspace that `bazel run` was called in, with "-dirty"
// behind it when tracked files differ; "unknown" without Bazel or git.
std::string CommitName();

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_MACHINE_H_
