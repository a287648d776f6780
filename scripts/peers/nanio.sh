#!/usr/bin/env bash
# nanio: a second S3 server that verifies signatures, written apart from moto and from botocore.
#
#   nanio.sh start DIR   installs (once), starts, seeds; writes DIR/env as KEY=value lines
#   nanio.sh stop DIR    ends what start began
#
# The installation is kept in AAM_PEERS_CACHE (default: target/peers).
set -euo pipefail

VERSION=0.1.7
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${AAM_PEERS_CACHE:-$here/../../target/peers}
venv=$cache/nanio-$VERSION

install() {
  [ -e "$venv/.complete" ] && return
  mkdir -p "$cache"
  # Two runs at once would break each other's installation.
  exec 8>"$cache/nanio.lock"
  flock 8
  if [ ! -e "$venv/.complete" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "nanio==$VERSION"
    touch "$venv/.complete"
  fi
  exec 8>&-
}

stop() {
  [ -e "$1/nanio.pid" ] || return 0
  local pid
  pid=$(cat "$1/nanio.pid")
  # A number alone may be another process by now.
  if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q nanio; then
    kill "$pid"
  fi
  rm -f "$1/nanio.pid"
}

# Buckets are folders and objects are files.
seed() {
  mkdir -p "$1/landing/orders" "$1/landing/events/a b" "$1/empty"
  for number in $(seq 1 25); do
    echo "$number" >"$1/landing/orders/part-$number.csv"
  done
  echo one >"$1/landing/events/a b/ü+&.txt"
  echo top >"$1/landing/README.txt"
}

answers() {
  python3 - "$1" <<'PY'
import sys, time, urllib.error, urllib.request
deadline = time.monotonic() + 30
while True:
    try:
        urllib.request.urlopen(sys.argv[1], timeout=2)
        sys.exit("nanio serves without a signature")
    except urllib.error.HTTPError as error:
        sys.exit(0 if error.code == 403 else f"nanio answers {error.code} without a signature")
    except OSError as error:
        if time.monotonic() > deadline:
            sys.exit(f"nanio does not answer: {error}")
        time.sleep(0.05)
PY
}

start() {
  local dir=$1 port key secret
  mkdir -p "$dir"
  install
  stop "$dir"
  rm -rf "$dir/data"
  seed "$dir/data"
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  key=$(python3 -c 'import secrets; print(secrets.token_hex(8))')
  secret=$(python3 -c 'import secrets; print(secrets.token_urlsafe(30))')
  NANIO_ACCESS_KEY=$key NANIO_SECRET_KEY=$secret setsid "$venv/bin/python" -m nanio serve --host 127.0.0.1 --port "$port" \
    --data-dir "$dir/data" --no-access-log >"$dir/nanio.log" 2>&1 </dev/null &
  echo $! >"$dir/nanio.pid"
  if ! answers "http://127.0.0.1:$port/landing"; then
    tail -20 "$dir/nanio.log" >&2
    stop "$dir"
    return 1
  fi
  printf 'AAM_TEST_NANIO_%s=%s\n' ENDPOINT "http://127.0.0.1:$port" KEY_ID "$key" SECRET "$secret" >"$dir/env"
}

case "${1:-} ${2:-}" in
  "start "?*) start "$2" ;;
  "stop "?*) stop "$2" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
