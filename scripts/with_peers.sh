#!/usr/bin/env bash
# Starts the named peers, runs a command, stops all of them.
#
#   scripts/with_peers.sh postgres mariadb -- cargo test --test it
#
# A peer is a script scripts/peers/NAME.sh with `start DIR` and `stop DIR`. `start` returns when the
# peer answers and has written DIR/env (lines NAME=value). Each line reaches the command as a
# variable AAM_TEST_<PEER>_<NAME>, and AAM_TEST_<PEER> names DIR/env itself.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
peers=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  peers+=("$1")
  shift
done
if [ "${1:-}" != -- ] || [ $# -lt 2 ]; then
  echo "usage: $0 PEER... -- COMMAND [ARGUMENT...]" >&2
  exit 64
fi
shift

# Servers run as a user of their own, so each directory on the way must be passable.
root=$(mktemp -d "${TMPDIR:-/tmp}/aam-peers.XXXXXX")
chmod 755 "$root"

stop_all() {
  local status=$?
  trap - EXIT INT TERM
  for peer in "${peers[@]}"; do
    "$here/peers/$peer.sh" stop "$root/$peer" >&2 || echo "with_peers: $peer did not stop" >&2
  done
  rm -rf "$root"
  exit "$status"
}
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

starting=()
for peer in "${peers[@]}"; do
  "$here/peers/$peer.sh" start "$root/$peer" >&2 &
  starting+=($!)
done
for index in "${!starting[@]}"; do
  wait "${starting[$index]}" || { echo "with_peers: ${peers[$index]} did not start" >&2; exit 69; }
done

for peer in "${peers[@]}"; do
  name=${peer^^}
  name=${name//-/_}
  export "AAM_TEST_$name=$root/$peer/env"
  while IFS='=' read -r key value; do
    [ -n "$key" ] && export "AAM_TEST_${name}_$key=$value"
  done <"$root/$peer/env"
done

"$@"
