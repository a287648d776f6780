#!/usr/bin/env bash
# A FastAPI service on loopback for the tests of the openapi engine.
#   fastapi.sh start DIR   installs it once into AAM_PEERS_CACHE (target/peers), starts it, writes DIR/env
#   fastapi.sh stop DIR    stops what start started
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${AAM_PEERS_CACHE:-$here/../../target/peers}
what=${1:-}
dir=${2:-}
[ -n "$dir" ] || { echo "usage: fastapi.sh start|stop DIR" >&2; exit 64; }

stop() {
  if [ -f "$dir/fastapi.pid" ]; then
    kill "$(cat "$dir/fastapi.pid")" 2>/dev/null || true
    rm -f "$dir/fastapi.pid"
  fi
}

start() {
  mkdir -p "$cache" "$dir"
  stop
  venv=$cache/fastapi
  if [ ! -f "$venv/.ready" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check 'fastapi==0.165.0' 'uvicorn==0.54.0' >&2
    touch "$venv/.ready"
  fi
  # Made up at every start: no secret of a test is ever written into the repository.
  token=$(python3 -c 'import secrets; print(secrets.token_urlsafe(24))')
  key=$(python3 -c 'import secrets; print(secrets.token_urlsafe(24))')
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  TOKEN=$token KEY=$key nohup "$venv/bin/python" -m uvicorn --app-dir "$here" fastapi_app:app \
    --host 127.0.0.1 --port "$port" --log-level warning >"$dir/fastapi.log" 2>&1 </dev/null &
  echo $! >"$dir/fastapi.pid"
  for _ in $(seq 1 150); do
    if python3 -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$port/openapi.json', timeout=1)" 2>/dev/null; then
      (umask 077; printf 'AAM_TEST_FASTAPI_URL=%s\nAAM_TEST_FASTAPI_TOKEN=%s\nAAM_TEST_FASTAPI_KEY=%s\n' \
        "http://127.0.0.1:$port" "$token" "$key" >"$dir/env")
      return 0
    fi
    kill -0 "$(cat "$dir/fastapi.pid")" 2>/dev/null || break
    sleep 0.1
  done
  echo "FastAPI did not start:" >&2
  cat "$dir/fastapi.log" >&2
  stop
  return 1
}

case $what in
  start) start ;;
  stop) stop ;;
  *) echo "usage: fastapi.sh start|stop DIR" >&2; exit 64 ;;
esac
