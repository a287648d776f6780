#!/usr/bin/env bash
# A FastAPI service on loopback for the tests of the openapi engine: fastapi.sh start DIR | stop DIR
#
# DIR/env: URL TOKEN KEY.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/fastapi.pid" uvicorn
}

start() {
  local venv token key port n=0
  mkdir -p "$dir"
  venv=$(venv fastapi-0.165.0 'fastapi==0.165.0' 'uvicorn==0.54.0')
  installed
  token=$(new_secret)
  key=$(new_secret)
  port=$(free_port)
  TOKEN=$token KEY=$key setsid "$venv/bin/python" -m uvicorn --app-dir "$here" fastapi_app:app \
    --host 127.0.0.1 --port "$port" --log-level warning >"$dir/fastapi.log" 2>&1 </dev/null &
  echo $! >"$dir/fastapi.pid"
  while [ "$n" -lt 300 ]; do
    if python3 -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$port/openapi.json', timeout=1)" 2>/dev/null; then
      printf '%s\n' "URL=http://127.0.0.1:$port" "TOKEN=$token" "KEY=$key" >"$dir/env"
      return 0
    fi
    kill -0 "$(cat "$dir/fastapi.pid")" 2>/dev/null || break
    n=$((n + 1))
    sleep 0.1
  done
  tail -n 20 "$dir/fastapi.log" >&2
  stop
  return 1
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
