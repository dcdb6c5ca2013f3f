#!/usr/bin/env bash
# Builds and runs the benchmarks: bazel run -c opt //benchmarks -- OPTION...
# On Debian 12 it installs what is missing: what the build needs, and what it is
# measured against, as far as that can be had (benchmarks/peers/README.md).
#
# Usage: tools/bench.sh [--no-peers] [OPTION...]
#   --no-peers   do without the peers that need a package
#   --help       lists the program's options
set -eu -o pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cache=$root/.cache
. "$root/tools/lib/install.sh"

ensure_home
require "${bazel_packages[@]}" "${library_packages[@]}"

# The program runs in a folder of Bazel's: a file named relative to where the
# caller stands gets its full path.
options=()
peers=yes
for option in "$@"; do
  case $option in
    --no-peers)
      peers=no
      continue
      ;;
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

# One by one, so that a package that cannot be had costs one peer. detect.sh
# says on standard error which are missing in the end.
peer_flags=()
if [ "$peers" = yes ]; then
  mapfile -t peer_packages < <("$root/benchmarks/peers/detect.sh" --packages)
  for package in "${peer_packages[@]}"; do
    require "$package" || true
  done
  read -r -a peer_flags < <("$root/benchmarks/peers/detect.sh")
fi

cd "$root"
exec bazel run --noshow_progress --ui_event_filters=-info "${config[@]}" \
  "${peer_flags[@]}" -c opt //benchmarks -- "${options[@]}"
