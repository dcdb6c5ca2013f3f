# Sourced by tools/test.sh and tools/bench.sh: installs what a step needs on
# Debian 12, and only what is missing.
#
#   require command:cmake=cmake file:/usr/include/zstd.h=libzstd-dev ...
#   require_buildifier
#
# Each word of `require` is a probe and the Debian package that satisfies it.
# Without the right to install, the exact line to run is printed and the call
# fails. The caller has set $root (the repository) and $cache (a folder that git
# and Bazel ignore).

# Debian's Bazel with the rule sets that WORKSPACE names, a compiler, Python.
bazel_packages=(
  command:bazel=bazel-bootstrap
  command:g++=g++
  command:python3=python3
  file:/usr/share/bazel/tools/skylib/WORKSPACE=bazel-skylib
  file:/usr/share/bazel/rules/java/WORKSPACE=bazel-rules-java
  file:/usr/share/bazel/rules/proto/WORKSPACE=bazel-rules-proto
)

# The libraries below third_party/system.
library_packages=(
  file:/usr/include/absl/base/config.h=libabsl-dev
  file:/usr/include/benchmark/benchmark.h=libbenchmark-dev
  file:/usr/include/gtest/gtest.h=libgtest-dev
  file:/usr/include/nlohmann/json.hpp=nlohmann-json3-dev
  file:/usr/include/rapidcheck.h=librapidcheck-dev
  file:/usr/include/zstd.h=libzstd-dev
)

# What tests run: QEMU's device models (testing/qemu).
test_packages=(
  command:qemu-system-x86_64=qemu-system-x86
)

# What the checks beside Bazel use.
check_packages=(
  command:clang++=clang
  command:clang-format=clang-format
  command:cmake=cmake
  command:make=make
  command:npm=npm
  command:pkg-config=pkg-config
  command:valgrind=valgrind
  file:/etc/ssl/certs/ca-certificates.crt=ca-certificates
)

# Prints the package of each probe that fails.
missing_packages() {
  local word probe
  for word in "$@"; do
    probe=${word%%=*}
    case $probe in
      command:*) command -v "${probe#command:}" >/dev/null 2>&1 ;;
      file:*) [ -e "${probe#file:}" ] ;;
    esac || printf '%s\n' "${word#*=}"
  done
}

require() {
  local missing as_root=()
  mapfile -t missing < <(missing_packages "$@")
  [ "${#missing[@]}" -gt 0 ] || return 0
  if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo -n)
  fi
  if ! command -v apt-get >/dev/null 2>&1 ||
    { [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null; }; then
    {
      echo "Missing on this machine. On Debian 12, run as root and try again:"
      echo "  apt-get update && apt-get install -y ${missing[*]}"
    } >&2
    return 1
  fi
  echo "Installing: ${missing[*]}" >&2
  # A fresh machine has no package lists; old lists name files that are gone.
  "${as_root[@]}" apt-get -q update >&2 ||
    echo "apt-get update failed; going on with the lists at hand" >&2
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends \
    "${missing[@]}" </dev/null >&2
  mapfile -t missing < <(missing_packages "$@")
  [ "${#missing[@]}" -eq 0 ] && return 0
  echo "Still missing after the installation: ${missing[*]}" >&2
  return 1
}

# Leaves buildifier in $cache/npm and its path in $buildifier. The package holds
# the binaries of all platforms; tools/npm pins its version and checksum.
require_buildifier() {
  local machine certificates=/etc/ssl/certs/ca-certificates.crt
  case $(uname -m) in
    x86_64) machine=linux_amd64 ;;
    aarch64) machine=linux_arm64 ;;
    riscv64) machine=linux_riscv64 ;;
    *)
      echo "buildifier: no binary for $(uname -m)" >&2
      return 1
      ;;
  esac
  buildifier=$cache/npm/node_modules/@bazel/buildifier/buildifier-$machine
  if [ -x "$buildifier" ] &&
    cmp -s "$root/tools/npm/package-lock.json" "$cache/npm/package-lock.json"
  then
    return 0
  fi
  rm -rf "$cache/npm"
  mkdir -p "$cache/npm"
  cp "$root/tools/npm/package.json" "$root/tools/npm/package-lock.json" \
    "$cache/npm/"
  # --ignore-scripts: nothing of the package runs while it is installed. node
  # does not look at the machine's own certificates unless it is told to.
  (cd "$cache/npm" &&
    NODE_EXTRA_CA_CERTS=${NODE_EXTRA_CA_CERTS:-$certificates} npm ci --ignore-scripts --no-audit --no-fund --cache "$cache/npm-cache" \
      </dev/null >&2) || return 1
  [ -x "$buildifier" ]
}

# Bazel and npm write below HOME: gives them one where the caller has none.
ensure_home() {
  if [ -z "${HOME:-}" ] || ! mkdir -p "$HOME" 2>/dev/null ||
    [ ! -w "$HOME" ]; then
    export HOME=$cache/home
    mkdir -p "$HOME"
  fi
}
