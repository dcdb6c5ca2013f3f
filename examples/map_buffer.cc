// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Lends a buffer to a device and takes it back: the first program to read.
// The "device" is a few lines that reach memory only through the domain.

#include <array>
#include <cstddef>
#include <cstdio>
#include <cstring>

#include "domain/domain.h"

using namespace dmamap;  // NOLINT: an example

// A device that receives `text` into the I/O address it was given.
Result<void> DeviceReceives(Domain<>& domain, Iova at, const char* text) {
  for (std::size_t left = std::strlen(text); left > 0;) {
    Result<DeviceView> view = domain.Translate(at, left, Permission::kWrite);
    if (!view.ok()) return view.error();  // blocked: not mapped, or read-only
    std::memcpy(view->data, text, view->length);
    at = at + view->length;
    text += view->length;
    left -= view->length;
  }
  return Ok();
}

int main() {
  Domain<> domain;  // bounce pages below 64 MiB, 32-bit I/O addresses
  if (!domain.Init({.limit = Iova(0xffff'ffff), .bounce_size = 64 << 20}).ok())
    return 1;

  std::array<char, 1500> frame = {};
  Result<Mapping> m = domain.Map(PhysAddrOf(frame.data()), frame.size(),
                                 Direction::kFromDevice);
  if (!m.ok()) {
    std::printf("map: %s\n", ToString(m.error()));
    return 1;
  }

  // The device writes 13 of the 1500 bytes. The buffer does not change yet.
  if (!DeviceReceives(domain, m->iova, "Hello, driver").ok()) return 1;
  std::printf("before unmap: \"%s\"\n", frame.data());

  if (!domain.Unmap(*m).ok()) return 1;
  std::printf("after unmap:  \"%s\"\n", frame.data());

  // Too late: the device is refused, and so is a second unmap.
  Result<void> late = DeviceReceives(domain, m->iova, "stale");
  Result<void> twice = domain.Unmap(*m);
  if (late.ok() || twice.ok()) return 1;
  std::printf("late write: %s, second unmap: %s\n", ToString(late.error()),
              ToString(twice.error()));
}
