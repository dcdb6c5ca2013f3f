#!/usr/bin/env bash
# Builds and runs consumers/main.cc once for each way of embedding dmamap.
#
# Usage: check_consumers.sh [WAY...]
#
# Prints one result line for each way (lib/results.sh), and what a way that
# failed had to say on standard error.
set -eu -o pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
consumers=$root/tools/consumers
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Runs the program; it must say that it is content.
run_program() {
  [ "$("$@")" = "dmamap consumer: ok" ]
}

with_cmake() { # SOURCE_FOLDER [CMAKE_OPTION...]
  local build=$work/build-$1
  cmake -S "$consumers/$1" -B "$build" "${@:2}"
  cmake --build "$build"
  run_program "$build/consumer"
}

install_to_prefix() {
  [ ! -d "$work/prefix" ] || return 0
  cmake -S "$root" -B "$work/build-dmamap" \
    -DCMAKE_INSTALL_PREFIX="$work/first-prefix"
  cmake --build "$work/build-dmamap"
  cmake --install "$work/build-dmamap"
  # What is installed must not know where it was installed.
  mv "$work/first-prefix" "$work/prefix"
}

# As a kernel would: without exceptions, RTTI or a single warning.
include_path() {
  g++ -std=c++20 -Wall -Wextra -Wconversion -Wshadow -Werror \
    -fno-exceptions -fno-rtti -I"$root" "$consumers/main.cc" \
    -o "$work/include_path"
  run_program "$work/include_path"
}

add_subdirectory() { with_cmake add_subdirectory; }

fetch_content() { with_cmake fetch_content; }

find_package() {
  install_to_prefix
  with_cmake find_package -DCMAKE_PREFIX_PATH="$work/prefix"
}

pkg_config() {
  local flags
  install_to_prefix
  flags=$(PKG_CONFIG_PATH=$work/prefix/share/pkgconfig \
    pkg-config --cflags --libs dmamap)
  # shellcheck disable=SC2086  # The flags are words.
  clang++ -std=c++20 $flags "$consumers/main.cc" -o "$work/pkg_config"
  run_program "$work/pkg_config"
}

bazel_workspace() {
  local bazel=(bazel --max_idle_secs=15)
  cd "$consumers"
  "${bazel[@]}" build --symlink_prefix="$work/bazel-" --noshow_progress \
    //:consumer
  run_program "$work/bazel-bin/consumer"
  "${bazel[@]}" shutdown
}

ways=(include_path add_subdirectory fetch_content find_package pkg_config
  bazel_workspace)
[ "$#" -eq 0 ] || ways=("$@")

for way in "${ways[@]}"; do
  # Not in a condition: that would switch off `set -e` inside.
  set +e
  (
    set -e
    "$way"
  ) >"$work/log" 2>&1 </dev/null
  status=$?
  set -e
  if [ "$status" -eq 0 ]; then
    printf 'pass\tconsumer %s\n' "$way"
  else
    printf 'fail\tconsumer %s\texit status %s\n' "$way" "$status"
    cat "$work/log" >&2
  fi
done
