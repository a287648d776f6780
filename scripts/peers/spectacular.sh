#!/usr/bin/env bash
# A service of Django REST framework with a description of drf-spectacular, on loopback for the tests of the openapi engine:
#   spectacular.sh start DIR | stop DIR
#
# DIR/env: URL PASSWORD (of the user reader).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/server.pid" spectacular_app
}

start() {
  local venv password port
  mkdir -p "$dir"
  venv=$(venv django-5.2.19 'django==5.2.19' 'django-ninja==1.7.1' 'djangorestframework==3.18.3' 'drf-spectacular==0.30.0')
  password=$(new_secret)
  installed
  port=$(free_port)
  PASSWORD=$password PORT=$port DATABASE="$dir/app.db" setsid "$venv/bin/python" "$here/spectacular_app.py" \
    >"$dir/server.log" 2>&1 </dev/null &
  echo $! >"$dir/server.pid"
  await_http "$dir/server.pid" "http://127.0.0.1:$port/api/schema/" "$dir/server.log" || { stop; return 1; }
  printf '%s\n' "URL=http://127.0.0.1:$port" "PASSWORD=$password" >"$dir/env"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
