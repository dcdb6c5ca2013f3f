#!/usr/bin/env bash
# Runs every check of the repository. The last line is "N passed, N failed",
# counted from real results; the exit status is 0 only if nothing failed and
# everything ran. On Debian 12 it installs what is missing.
#
# Usage: tools/test.sh [STEP...]        (without a step: all of them, in order)
#
#   tools         the tests of the scripts in this folder
#   sources       licence headers, include guards, and who may include whom
#   format        clang-format and buildifier
#   headers       each shipped header compiles alone: g++ and clang++, -Werror
#   consumers     a program embeds dmamap in each way that README.md offers
#   instructions  the fast paths of iova/ have not grown (valgrind)
#   bazel         bazel test //...
#   tsan          the tests tagged "concurrent" under the thread sanitizer
#   asan          the same under the address and undefined-behaviour sanitizers
#
# On demand, since it doubles the time:
#
#   clang         bazel test //... compiled with clang
set -u -o pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root" || exit 1
cache=$root/.cache
export PYTHONDONTWRITEBYTECODE=1
. tools/lib/results.sh
. tools/lib/install.sh

work=$(mktemp -d)
trap 'rm -rf "$work" "$results"' EXIT

# Runs a command that prints result lines and counts them.
check() { # STEP COMMAND...
  local step=$1 status=0
  shift
  "$@" >"$work/$step.results" </dev/null || status=$?
  collect "$step" "$status" <"$work/$step.results"
}

# The test targets with a tag, and what a target must carry not to have to run:
# "manual" stands for needing something that is not installed here.
tagged() { printf 'attr(tags, "\\b%s\\b", tests(//...))' "$1"; }

# Runs `bazel test` over the test targets of a query and counts each case.
bazel_test() { # STEP QUERY OPTION...
  local step=$1 query=$2 status=0
  shift 2
  local events=$work/$step.json expected=$work/$step.expected
  : >"$events"
  bazel query --noshow_progress "$query except $(tagged manual)" \
    >"$expected" </dev/null || status=$?
  bazel test --keep_going "${bazel_options[@]}" \
    --build_event_json_file="$events" "$@" //... </dev/null || status=$?
  python3 tools/count_tests.py "$events" "$expected" "$step" \
    >"$work/$step.results" || status=$?
  collect "$step" "$status" <"$work/$step.results"
}

# The same for the tests of several threads, under a sanitizer.
sanitizer_test() { # SANITIZER
  local options=(--config="$1" --build_tests_only
    --test_tag_filters=concurrent "${gcc_options[@]}")
  # The thread sanitizer of g++ 12 and clang 14 finds no room for its shadow
  # memory where the kernel randomizes more bits of an address than these.
  if [ "$1" = tsan ] &&
    [ "$(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 0)" -gt 28 ]; then
    options+=("--run_under=setarch $(uname -m) -R")
  fi
  bazel_test "$1" "$(tagged concurrent)" "${options[@]}"
}

run_step() {
  case $1 in
    tools) check tools python3 tools/tools_test.py ;;
    sources) check sources python3 tools/check_sources.py ;;
    format)
      check clang-format python3 tools/check_format.py clang-format
      if require_buildifier; then
        check buildifier python3 tools/check_format.py buildifier "$buildifier"
      else
        printf 'fail\tbuildifier\tcould not be installed\n' | collect buildifier
      fi
      ;;
    headers) check headers python3 tools/check_headers.py ;;
    consumers) check consumers tools/check_consumers.sh ;;
    instructions) check instructions python3 tools/check_instructions.py ;;
    bazel)
      bazel_test bazel 'tests(//...)' "${gcc_options[@]}"
      bazel query --noshow_progress "$(tagged manual)" </dev/null 2>/dev/null |
        sed 's/^/  not run, tagged manual: /'
      ;;
    tsan | asan) sanitizer_test "$1" ;;
    clang) bazel_test clang 'tests(//...)' --config=clang ;;
  esac
}

steps=(tools sources format headers consumers instructions bazel tsan asan)
case ${1:-} in
  -h | --help)
    sed -n '/^# Runs every/,/^set /{ /^#/s/^# \{0,1\}//p }' "$0"
    exit 0
    ;;
esac
for step in "$@"; do
  case " ${steps[*]} clang " in
    *" $step "*) ;;
    *)
      echo "tools/test.sh: no step '$step'; the steps are: ${steps[*]} clang" >&2
      exit 2
      ;;
  esac
done
[ "$#" -eq 0 ] || steps=("$@")

ensure_home
if ! require "${bazel_packages[@]}" "${library_packages[@]}" \
  "${test_packages[@]}" "${check_packages[@]}"; then
  printf 'fail\tinstall\tpackages are missing\n' | collect install
  finish
  exit 1
fi

bazel_options=(--color=auto)
if [ ! -t 1 ]; then
  bazel_options=(--color=no --noshow_progress)
fi
# g++ looks for garbage less often: a tenth to a quarter less time for what
# includes much.
gcc_options=(--copt=--param=ggc-min-expand=300
  --copt=--param=ggc-min-heapsize=1000000)
for step in "${steps[@]}"; do
  echo "== $step"
  SECONDS=0
  results_seen=$(wc -l <"$results")
  run_step "$step"
  echo "   $(subtotal), $SECONDS s"
done
if [ "${CI:-}" = true ]; then
  bazel shutdown </dev/null >/dev/null 2>&1
fi
finish
