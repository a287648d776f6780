#!/usr/bin/env bash
# A Litestar service on loopback for the tests of the openapi engine: litestar.sh start DIR | stop DIR
#
# DIR/env: URL TOKEN.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/server.pid" uvicorn
}

start() {
  local venv token port
  mkdir -p "$dir"
  venv=$(venv litestar-2.25.0 'litestar==2.25.0' 'uvicorn==0.54.0')
  token=$(new_secret)
  installed
  port=$(free_port)
  TOKEN=$token setsid "$venv/bin/python" -m uvicorn --app-dir "$here" litestar_app:app \
    --host 127.0.0.1 --port "$port" --log-level warning >"$dir/server.log" 2>&1 </dev/null &
  echo $! >"$dir/server.pid"
  await_http "$dir/server.pid" "http://127.0.0.1:$port/schema/openapi.json" "$dir/server.log" || { stop; return 1; }
  printf '%s\n' "URL=http://127.0.0.1:$port" "TOKEN=$token" >"$dir/env"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
