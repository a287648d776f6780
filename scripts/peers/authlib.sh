#!/usr/bin/env bash
# An authorization server of Authlib for the JWT bearer grant (RFC 7523): authlib.sh start DIR | stop DIR
#
# DIR/env: URL TOKEN_URL OTHER_TOKEN_URL ACCOUNT USER KEY_FILE STRANGER_KEY_FILE UNKNOWN_KEY_FILE; authlib_app.py
# explains them. Private keys are in files below DIR.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/authlib.pid" authlib_app
}

start() {
  local venv port
  mkdir -p "$dir"
  chmod 700 "$dir"
  venv=$(venv authlib-1.9.10 'Authlib==1.9.10' 'Flask==3.1.3')
  installed
  port=$(free_port)
  DIR=$dir PORT=$port setsid "$venv/bin/python" "$here/authlib_app.py" >"$dir/authlib.log" 2>&1 </dev/null &
  echo $! >"$dir/authlib.pid"
  await_http "$dir/authlib.pid" "http://127.0.0.1:$port/openapi.json" "$dir/authlib.log" || { stop; return 1; }
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
