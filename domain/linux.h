// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_LINUX_H_
#define DMAMAP_DOMAIN_LINUX_H_

// LinuxDomainPolicies: what a Domain in a Linux process is best made of.
//
//   Domain<LinuxDomainPolicies> domain;
//
// The fence between maps and faults is membarrier(2), which takes a full fence
// out of each Map. Without that call everything is as with DomainPolicies.

#include "dma/membarrier.h"
#include "dma/version.h"
#include "domain/options.h"

namespace dmamap::inline v0 {

struct LinuxDomainPolicies : DomainPolicies {
  template <template <class> class>
  using Fence = MembarrierFence;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_LINUX_H_
