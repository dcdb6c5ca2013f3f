#!/bin/sh
# Prints, on one line, the --define flags of the peers that are installed, and
# on standard error, for each other one, the Debian package that brings it.
#
#   bazel run $(benchmarks/peers/detect.sh) //benchmarks/peers:peers_check
#
# detect.sh --packages prints PROBE=PACKAGE for each peer instead, as
# tools/lib/install.sh takes them.
set -eu

# define, file that must be there, package, what is lost without it
peers='
peer_linux /usr/src/linux-source-6.12.tar.xz linux-source-6.12 linux-6.12 and vduse-6.12
peer_dpdk /usr/include/dpdk/rte_mempool.h libdpdk-dev dpdk-mempool, dpdk-null and dpdk-virtio-user
peer_mimalloc /usr/include/mimalloc.h libmimalloc-dev mimalloc, and the fastest linux-6.12
peer_boost /usr/include/boost/icl/interval_map.hpp libboost-dev boost-icl
'

printf '%s\n' "$peers" | {
  flags=
  while read -r define file package lost; do
    [ -n "$define" ] || continue
    if [ "${1:-}" = --packages ]; then
      echo "file:$file=$package"
    elif [ -r "$file" ]; then
      flags="$flags --define=$define=1"
    else
      echo "no $lost: Debian package $package is not installed" >&2
    fi
  done
  [ "${1:-}" = --packages ] || echo "${flags# }"
}
