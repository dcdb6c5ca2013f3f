// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_LITTLE_ENDIAN_H_
#define DMAMAP_NICRING_LITTLE_ENDIAN_H_

// Little-endian words in byte arrays, at any alignment, on any host.
//
// Everything is spelled in shifts of bytes, so that it is right on a big-endian
// host by construction; g++ and clang turn each function into one move.

#include <bit>
#include <cstddef>
#include <cstdint>

#include "dma/version.h"

namespace dmamap::inline v0 {

constexpr std::uint16_t LoadLe16(const std::byte* p) {
  return static_cast<std::uint16_t>(std::to_integer<unsigned>(p[0]) |
                                    std::to_integer<unsigned>(p[1]) << 8);
}
constexpr std::uint32_t LoadLe32(const std::byte* p) {
  return static_cast<std::uint32_t>(LoadLe16(p)) |
         static_cast<std::uint32_t>(LoadLe16(p + 2)) << 16;
}
constexpr std::uint64_t LoadLe64(const std::byte* p) {
  return static_cast<std::uint64_t>(LoadLe32(p)) |
         static_cast<std::uint64_t>(LoadLe32(p + 4)) << 32;
}

constexpr void StoreLe16(std::byte* p, std::uint16_t value) {
  p[0] = static_cast<std::byte>(value & 0xff);
  p[1] = static_cast<std::byte>(value >> 8);
}
constexpr void StoreLe32(std::byte* p, std::uint32_t value) {
  StoreLe16(p, static_cast<std::uint16_t>(value & 0xffff));
  StoreLe16(p + 2, static_cast<std::uint16_t>(value >> 16));
}
constexpr void StoreLe64(std::byte* p, std::uint64_t value) {
  StoreLe32(p, static_cast<std::uint32_t>(value & 0xffffffff));
  StoreLe32(p + 4, static_cast<std::uint32_t>(value >> 32));
}

// The same between a value and its memory image in a register, for a word that
// must be loaded or stored whole.
constexpr std::uint16_t FromLittle16(std::uint16_t image) {
  struct Bytes {
    std::byte byte[2];
  };
  return LoadLe16(std::bit_cast<Bytes>(image).byte);
}
constexpr std::uint16_t ToLittle16(std::uint16_t value) {
  struct Bytes {
    std::byte byte[2];
  } bytes{};
  StoreLe16(bytes.byte, value);
  return std::bit_cast<std::uint16_t>(bytes);
}
constexpr std::uint32_t FromLittle32(std::uint32_t image) {
  struct Bytes {
    std::byte byte[4];
  };
  return LoadLe32(std::bit_cast<Bytes>(image).byte);
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_LITTLE_ENDIAN_H_
