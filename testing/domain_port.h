// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_DOMAIN_PORT_H_
#define DMAMAP_TESTING_DOMAIN_PORT_H_

// DomainPort: a simulated device behind a Domain. Each access goes through
// Translate, as much of it at a time as lies on one page of one mapping; a page
// that is not there yet is faulted in on the way.
//
//   DomainPort port(domain);
//   Transfer t = port.Write(mapping->iova, frame, 60);

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/result.h"
#include "dma/version.h"
#include "testing/device_port.h"

namespace dmamap::inline v0 {

// D has the device's side of domain/domain.h: Translate. As thread-safe as D;
// the bytes themselves move by SharedLoad and SharedStore.
template <class D>
class DomainPort {
 public:
  explicit DomainPort(D& domain) : domain_(&domain) {}

  // kNotMapped, kPermission, or what else Translate says (kLimit, kNoMemory).
  Transfer Read(Iova at, void* to, std::size_t n) {
    std::byte* const bytes = static_cast<std::byte*>(to);
    return Move(at, n, Permission::kRead,
                [bytes](std::byte* data, std::size_t done, std::size_t length) {
                  SharedLoad(bytes + done, data, length);
                });
  }
  Transfer Write(Iova at, const void* from, std::size_t n) {
    const std::byte* const bytes = static_cast<const std::byte*>(from);
    return Move(at, n, Permission::kWrite,
                [bytes](std::byte* data, std::size_t done, std::size_t length) {
                  SharedStore(data, bytes + done, length);
                });
  }

 private:
  template <class F>
  Transfer Move(Iova at, std::size_t n, Permission permission, F&& f) {
    std::size_t done = 0;
    while (done < n) {  // each turn moves at least one byte
      const Result<Iova> here = at.CheckedAdd(done);
      if (!here.ok()) return {done, Error::kNotMapped};
      const auto view = domain_->Translate(*here, n - done, permission);
      if (!view.ok()) return {done, view.error()};
      // Never more: said again for compilers that look no further than this.
      const auto length = static_cast<std::size_t>(
          std::min<std::uint64_t>(view->length, n - done));
      f(view->data, done, length);
      done += length;
    }
    return {done, Ok()};
  }

  D* domain_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_DOMAIN_PORT_H_
