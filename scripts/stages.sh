#!/usr/bin/env bash
# Runs targets of the Makefile one after the other and prints how long each one took: scripts/stages.sh TARGET...
#
# Stops at the first target that fails. The table is printed in any case, so that a slow run shows where its time went.
set -uo pipefail

times=()
report() {
  echo "stages: how long each target took"
  printf '  %6d s  %s\n' "${times[@]}"
  echo "  $SECONDS s in total"
}

for target in "$@"; do
  began=$SECONDS
  "${MAKE:-make}" --no-print-directory "$target"
  status=$?
  times+=($((SECONDS - began)) "$target")
  if [ "$status" != 0 ]; then
    report
    echo "stages: $target failed" >&2
    exit "$status"
  fi
done
report
