#!/usr/bin/env bash
# Builds and runs the benchmarks: bazel run -c opt //benchmarks -- OPTION...
# On Debian 12 it installs what is missing.
#
# Usage: tools/bench.sh [OPTION...]      (--help lists the program's options)
set -eu -o pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cache=$root/.cache
. "$root/tools/lib/install.sh"

ensure_home
require "${bazel_packages[@]}" "${library_packages[@]}"

# The program runs in a folder of Bazel's: a file named relative to where the
# caller stands gets its full path.
options=()
for option in "$@"; do
  case $option in
    --json=/* | --trace=/*) ;;
    --json=?* | --trace=?*) option=${option%%=*}=$PWD/${option#*=} ;;
  esac
  options+=("$option")
done

# Compiled for this machine where it is a common one: the published figures are
# too. Without this script the build is portable.
config=(--config=bench)
has_x86_64_v3() {
  local flag
  for flag in avx avx2 bmi1 bmi2 f16c fma abm movbe xsave; do
    grep -qw "$flag" /proc/cpuinfo || return 1
  done
}
if [ "$(uname -m)" = x86_64 ] && has_x86_64_v3; then
  config+=(--config=x86-64-v3)
fi

cd "$root"
exec bazel run --noshow_progress --ui_event_filters=-info "${config[@]}" \
  -c opt //benchmarks -- "${options[@]}"
