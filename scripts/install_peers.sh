#!/usr/bin/env bash
# Installs what the named peers need and starts none of them: scripts/install_peers.sh PEER...
#
# `make test` runs this while the compiler works, because an installation mostly waits for the network. The output of a failed
# installation is printed. with_peers.sh installs what is still missing.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=$(mktemp -d "${TMPDIR:-/tmp}/aam-install.XXXXXX")
trap 'rm -rf "$dir"' EXIT
trap 'exit 143' TERM INT HUP
export AAM_INSTALL_ONLY=1

# one PEER: installs it; its output is shown only if it fails.
one() {
  local code=0
  "$here/peers/$1.sh" start "$dir/$1" >"$dir/$1.log" 2>&1 </dev/null || code=1
  [ "$code" = 0 ] || { echo "install_peers: $1 was not installed:"; cat "$dir/$1.log"; } >&2
  # A script that does not call `installed` has started its server.
  "$here/peers/$1.sh" stop "$dir/$1" >/dev/null 2>&1 </dev/null || true
  return "$code"
}

# Four at a time: more would take memory and processors from the compiler without being faster.
status=0
running=0
for peer in "$@"; do
  if [ "$running" -ge 4 ]; then
    wait -n || status=1
    running=$((running - 1))
  fi
  one "$peer" &
  running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
  wait -n || status=1
  running=$((running - 1))
done
exit "$status"
