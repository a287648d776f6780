#!/usr/bin/env bash
# Runs targets of the Makefile one after the other and prints how long each one took: scripts/stages.sh TARGET...
#
#   TARGET+TARGET   runs these at the same time; the output of each is printed in one piece when it and those before it have ended
#   TARGET@         starts this in the background; it may only prepare what a later target would do itself, so its failure is
#                   printed and does not end the run
#
# Stops at the first target that fails. The table is printed in any case, so that a slow run shows where its time went.
set -uo pipefail

times=()
groups=()
outputs=$(mktemp -d "${TMPDIR:-/tmp}/aam-stages.XXXXXX")

run() {
  "${MAKE:-make}" --no-print-directory "$1"
}

# A target in the background has a process group of its own, so that all of its processes can be ended.
stop_all() {
  local status=$? group
  trap '' EXIT INT TERM HUP
  for group in "${groups[@]}"; do
    kill -TERM -- "-$group" 2>/dev/null && wait "$group" 2>/dev/null
  done
  rm -rf "$outputs"
  exit "$status"
}
trap stop_all EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

report() {
  echo "stages: how long each target took"
  printf '  %6d s  %s\n' "${times[@]}"
  echo "  $SECONDS s in total"
}

fail() {
  report
  echo "stages: $1 failed" >&2
  exit "$2"
}

# in_background TARGET: sets `started` to its process; its output goes to a file with its name, and its end to TARGET.end.
in_background() {
  set -m
  {
    run "$1" >"$outputs/$1" 2>&1 </dev/null
    code=$?
    echo "$SECONDS" >"$outputs/$1.end"
    exit "$code"
  } &
  set +m
  started=$!
  groups+=("$started")
}

# prepare TARGET: runs it in the background and prints its output only if it fails.
prepare() {
  set -m
  { run "$1" >"$outputs/$1" 2>&1 </dev/null || { cat "$outputs/$1"; echo "stages: $1 failed in the background; the run goes on"; } >&2; } &
  set +m
  groups+=($!)
}

# cargo locks its folder while it compiles, but not while the tests run. So the next target starts when this one has printed that
# its tests run, or has ended.
until_it_runs() {
  until grep -q '^ *Running ' "$outputs/$1" 2>/dev/null || ! kill -0 "$2" 2>/dev/null; do sleep 0.2; done
}

# together TARGET...: runs them at the same time. Each one runs to its end, so that one run shows all failures.
together() {
  local target before started= status began=$SECONDS failed=() code=0
  local -A processes=()
  for target in "$@"; do
    [ -z "$started" ] || until_it_runs "$before" "$started"
    in_background "$target"
    processes[$target]=$started
    before=$target
  done
  for target in "$@"; do
    wait "${processes[$target]}"
    status=$?
    echo "stages: output of $target"
    cat "$outputs/$target"
    times+=($(($(cat "$outputs/$target.end" || echo "$SECONDS") - began)) "$target (at the same time: $*)")
    if [ "$status" != 0 ]; then
      failed+=("$target")
      code=$status
    fi
  done
  [ "${#failed[@]}" = 0 ] || fail "${failed[*]}" "$code"
}

for target in "$@"; do
  case $target in
    *@) prepare "${target%@}" ;;
    *+*)
      IFS=+ read -ra targets <<<"$target"
      together "${targets[@]}"
      ;;
    *)
      began=$SECONDS
      run "$target"
      status=$?
      times+=($((SECONDS - began)) "$target")
      [ "$status" = 0 ] || fail "$target" "$status"
      ;;
  esac
done
report
