#!/bin/sh
# Copyright 2026 The dmamap Authors
# SPDX-License-Identifier: Apache-2.0
#
# Fuzzes the rings against hostile devices (testing/fuzz/).
#
# Usage: tools/fuzz.sh [SECONDS [TARGET...]]
#
# Builds each target with clang's libFuzzer and the address and undefined-
# behaviour sanitizers, and runs it for SECONDS (60) from its corpus. New inputs
# go to build-fuzz/corpus/TARGET, what fails to build-fuzz/TARGET-*. Ends with
# the executions of each target; status 1 if one failed, 2 without libFuzzer.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- i8255x e1000 intel_advanced virtio_split virtio_packed transmit
clang=${CXX:-clang++}
out=build-fuzz
mkdir -p "$out"

echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' > "$out/probe.cc"
if ! "$clang" -fsanitize=fuzzer "$out/probe.cc" -o "$out/probe" 2> /dev/null; then
  echo "fuzz: needs clang and libFuzzer (Debian: clang libclang-rt-14-dev)" >&2
  exit 2
fi

status=0
for target in "$@"; do
  "$clang" -std=c++20 -O1 -g -I. -DDMAMAP_ENABLE_ASSERTS \
    -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
    "testing/fuzz/${target}_fuzz.cc" -o "$out/$target"
  mkdir -p "$out/corpus/$target"
  "$out/$target" -max_total_time="$seconds" -max_len=600 -print_final_stats=1 \
    -artifact_prefix="$out/$target-" "$out/corpus/$target" \
    "testing/fuzz/corpus/$target" > "$out/$target.log" 2>&1 || status=1
  echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' \
    "$out/$target.log") executions, $(grep -c '^SUMMARY' "$out/$target.log" ||
    true) failures ($out/$target.log)"
done
exit $status
