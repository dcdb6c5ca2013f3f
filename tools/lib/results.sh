# Sourced by tools/test.sh: counts results, one line each.
#
# A check prints one line for each thing it looked at,
#
#   pass<TAB>name            or            fail<TAB>name<TAB>why
#
# `collect STEP` reads such lines, `finish` prints the totals. A step that gives
# no result at all is a failure, and so is a line of any other form: nothing
# passes by not having run.

results=$(mktemp) # of the caller to remove; one line a check: step, passed, failed

# Reads result lines of STEP from standard input and prints the failures.
# With a second argument, which is the exit status of whatever made the lines,
# a status other than 0 without any failing line is a failure too.
collect() {
  local step=$1 status=${2:-0} passed=0 failed=0 verdict name why
  # The last line may lack its newline.
  while IFS=$'\t' read -r verdict name why || [ -n "$verdict" ]; do
    case $verdict in
      pass) passed=$((passed + 1)) ;;
      fail)
        failed=$((failed + 1))
        printf '  FAILED %s: %s\n' "$name" "$why"
        ;;
      *)
        failed=$((failed + 1))
        printf '  FAILED %s: not a result: %s\n' "$step" "$verdict $name $why"
        ;;
    esac
  done
  if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
    failed=1
    printf '  FAILED %s: exit status %s\n' "$step" "$status"
  fi
  if [ "$((passed + failed))" -eq 0 ]; then
    failed=1
    printf '  FAILED %s: gave no result\n' "$step"
  fi
  printf '%s\t%s\t%s\n' "$step" "$passed" "$failed" >>"$results"
}

# Prints the counts of the checks behind the first $results_seen ones.
subtotal() {
  awk -F '\t' -v seen="$results_seen" '
    NR > seen { passed += $2; failed += $3 }
    END { printf "%d passed, %d failed", passed, failed }' "$results"
}

# Prints the last line and succeeds when something passed and nothing failed.
finish() {
  local step p f passed=0 failed=0
  while IFS=$'\t' read -r step p f; do
    passed=$((passed + p))
    failed=$((failed + f))
  done <"$results"
  if [ "$((passed + failed))" -eq 0 ]; then
    failed=1
  fi
  printf '%s passed, %s failed\n' "$passed" "$failed"
  [ "$failed" -eq 0 ]
}
