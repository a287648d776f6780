#!/usr/bin/env bash
# A Django Ninja service on loopback for the tests of the openapi engine: ninja.sh start DIR | stop DIR
#
# DIR/env: URL TOKEN.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/server.pid" ninja_app
}

start() {
  local venv token port
  mkdir -p "$dir"
  venv=$(venv django-5.2.19 'django==5.2.19' 'django-ninja==1.7.1' 'djangorestframework==3.18.3' 'drf-spectacular==0.30.0')
  token=$(new_secret)
  installed
  port=$(free_port)
  TOKEN=$token PORT=$port setsid "$venv/bin/python" "$here/ninja_app.py" >"$dir/server.log" 2>&1 </dev/null &
  echo $! >"$dir/server.pid"
  await_http "$dir/server.pid" "http://127.0.0.1:$port/api/openapi.json" "$dir/server.log" || { stop; return 1; }
  printf '%s\n' "URL=http://127.0.0.1:$port" "TOKEN=$token" >"$dir/env"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
