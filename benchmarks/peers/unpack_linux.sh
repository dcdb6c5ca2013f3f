#!/bin/sh
# Usage: unpack_linux.sh LINUX-SOURCE.tar.xz FOLDER
#
# Leaves in FOLDER the files of the kernel that are compiled as peers, unchanged
# and under their own paths, and for every other header that they include one
# that includes the shim in its place. Both lists stand in BUILD.bazel as well,
# as the outputs of the rule that runs this.
set -eu
archive=$1
folder=$2

kernel_files='
drivers/iommu/iova.c
drivers/vdpa/vdpa_user/iova_domain.c
drivers/vdpa/vdpa_user/iova_domain.h
drivers/vhost/iotlb.c
include/linux/interval_tree_generic.h
include/linux/iova.h
include/linux/rbtree.h
include/linux/rbtree_augmented.h
include/linux/rbtree_types.h
include/linux/vhost_iotlb.h
lib/rbtree.c
'
shim_headers='
anon_inodes bitops compiler container_of cpu dma-mapping export file highmem
kernel kmemleak module moduleparam rcupdate slab smp stddef types vdpa vmalloc
workqueue
'

if [ ! -r "$archive" ]; then
  echo "$archive is missing: Debian package linux-source-6.12" >&2
  exit 1
fi
top=$(basename "$archive" .tar.xz)
mkdir -p "$folder/include/linux"
# --occurrence: stop reading once every file has been found.
# shellcheck disable=SC2046,SC2086 # one word for each file
tar -xJf "$archive" -C "$folder" --strip-components=1 --no-same-owner \
  --occurrence=1 $(printf "$top/%s\n" $kernel_files)
for name in $shim_headers; do
  echo '#include "benchmarks/peers/kernel_shim.h"' \
    >"$folder/include/linux/$name.h"
done
