#!/usr/bin/env bash
# Starts the named peers, runs a command, and stops all peers.
#
#   scripts/with_peers.sh postgres mariadb -- cargo test --test peers sql::
#
# A peer is a server or program that the tests use. Its script scripts/peers/NAME.sh has the commands `start DIR` and
# `stop DIR`. `start` installs what is missing. It returns when the peer answers on a port that the kernel chose and
# DIR/env is written (lines NAME=value). The command receives each line as a variable AAM_TEST_<PEER>_<NAME>.
# Packages from registries are kept in AAM_PEERS_CACHE (default: peers/ below the target folder of cargo). Secrets are
# generated anew at each start.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/peers/lib.sh"
peers=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  [ -x "$here/peers/$1.sh" ] || { echo "with_peers: unknown peer $1" >&2; exit 64; }
  peers+=("$1")
  shift
done
if [ "${1:-}" != -- ] || [ $# -lt 2 ]; then
  echo "usage: $0 PEER... -- COMMAND [ARGUMENT...]" >&2
  exit 64
fi
shift

# Each start of a Python program would otherwise compile all that it imports, which takes longer than what most tests do.
unset PYTHONDONTWRITEBYTECODE

# Some servers run as another user, which must have access to each directory of the path.
root=$(mktemp -d "${TMPDIR:-/tmp}/aam-peers.XXXXXX")
chmod 755 "$root"
began=$(now)
starting=()
running=

# Processes that still write into this folder were started by a peer and must end with this script.
left_over() {
  local entry target
  for entry in /proc/[0-9]*; do
    target=$(readlink "$entry/fd/1" 2>/dev/null || true)
    case $target in "$root"/*) echo "${entry#/proc/}" ;; esac
  done
}

stop_all() {
  local status=$? pid stopping=()
  trap '' EXIT INT TERM HUP
  # Each runs in its own process group, so that its children are stopped as well.
  for pid in $running "${starting[@]}"; do
    if kill -0 "$pid" 2>/dev/null; then
      kill -TERM -- "-$pid" 2>/dev/null || true
      wait "$pid" 2>/dev/null || true
    fi
  done
  for peer in "${peers[@]}"; do
    { "$here/peers/$peer.sh" stop "$root/$peer" >&2 || echo "with_peers: $peer did not stop" >&2; } &
    stopping+=($!)
  done
  wait "${stopping[@]}" || true
  for pid in $(left_over); do
    kill -KILL "$pid" 2>/dev/null || true
  done
  rm -rf "$root"
  exit "$status"
}
trap stop_all EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Another program may use a port after it was chosen and before the peer uses it, so a failed start is retried once.
start() {
  local begun
  begun=$(now)
  "$here/peers/$1.sh" start "$root/$1" ||
    { "$here/peers/$1.sh" stop "$root/$1" && rm -rf "${root:?}/$1" && "$here/peers/$1.sh" start "$root/$1"; } || return 1
  echo "with_peers: $1 is ready after $(since "$begun") s" >&2
}

set -m
for peer in "${peers[@]}"; do
  start "$peer" >&2 </dev/null &
  starting+=($!)
done
set +m
for index in "${!starting[@]}"; do
  wait "${starting[$index]}" || { echo "with_peers: ${peers[$index]} did not start" >&2; exit 69; }
done
starting=()
echo "with_peers: all ready after $(since "$began") s" >&2

for peer in "${peers[@]}"; do
  name=${peer^^}
  name=${name//-/_}
  while IFS= read -r line; do
    [ -z "$line" ] || export "AAM_TEST_${name}_${line%%=*}=${line#*=}"
  done <"$root/$peer/env"
done

begun=$(now)
set -m
"$@" <&0 &
running=$!
set +m
status=0
wait "$running" || status=$?
running=
echo "with_peers: the command exited with $status after $(since "$begun") s" >&2
exit "$status"
