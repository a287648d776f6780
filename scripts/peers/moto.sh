#!/usr/bin/env bash
# moto in auth mode: an S3 that verifies signatures and IAM policies.
#
#   moto.sh start DIR   installs (once), starts, seeds; writes DIR/env as KEY=value lines
#   moto.sh stop DIR    ends what start began
#
# The installation is kept in AAM_PEERS_CACHE (default: target/peers).
set -euo pipefail

VERSION=5.2.5
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${AAM_PEERS_CACHE:-$here/../../target/peers}
venv=$cache/moto-$VERSION

install() {
  [ -e "$venv/.complete" ] && return
  mkdir -p "$cache"
  # Two runs at once would break each other's installation.
  exec 8>"$cache/moto.lock"
  flock 8
  if [ ! -e "$venv/.complete" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "moto[server]==$VERSION"
    touch "$venv/.complete"
  fi
  exec 8>&-
}

stop() {
  [ -e "$1/moto.pid" ] || return 0
  local pid
  pid=$(cat "$1/moto.pid")
  # A number alone may be another process by now.
  if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q moto_server; then
    kill "$pid"
  fi
  rm -f "$1/moto.pid"
}

start() {
  local dir=$1
  mkdir -p "$dir"
  install
  stop "$dir"
  local port
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  # Calls are free until the seed is in and the count is set to 0; without this nothing is ever verified.
  INITIAL_NO_AUTH_ACTION_COUNT=100000 setsid "$venv/bin/python" "$venv/bin/moto_server" -H 127.0.0.1 -p "$port" \
    >"$dir/moto.log" 2>&1 </dev/null &
  echo $! >"$dir/moto.pid"
  if ! "$venv/bin/python" "$here/moto_seed.py" "http://127.0.0.1:$port" "$dir/env"; then
    tail -20 "$dir/moto.log" >&2
    stop "$dir"
    return 1
  fi
}

case "${1:-} ${2:-}" in
  "start "?*) start "$2" ;;
  "stop "?*) stop "$2" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
