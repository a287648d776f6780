#!/usr/bin/env bash
# A service on loopback whose requests are verified by oauthlib (OAuth 1.0a): oauthlib.sh start DIR | stop DIR
#
# DIR/env: URL ACCOUNT CONSUMER_KEY CONSUMER_SECRET TOKEN_ID TOKEN_SECRET.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/oauthlib.pid" oauthlib_app
}

start() {
  local venv port name
  mkdir -p "$dir"
  venv=$(venv oauthlib-4.0.1 'oauthlib==4.0.1')
  installed
  port=$(free_port)
  printf '%s\n' "URL=http://127.0.0.1:$port" ACCOUNT=1234567_SB1 >"$dir/env.new"
  for name in CONSUMER_KEY CONSUMER_SECRET TOKEN_ID TOKEN_SECRET; do
    printf '%s\n' "$name=$(new_secret)$(new_secret)" >>"$dir/env.new"
  done
  # The secrets reach the service by its environment, so that no list of processes shows them.
  (
    set -a
    . "$dir/env.new"
    PORT=$port exec setsid "$venv/bin/python" "$here/oauthlib_app.py"
  ) >"$dir/oauthlib.log" 2>&1 </dev/null &
  echo $! >"$dir/oauthlib.pid"
  await_http "$dir/oauthlib.pid" "http://127.0.0.1:$port/openapi.json" "$dir/oauthlib.log" || { stop; return 1; }
  mv "$dir/env.new" "$dir/env"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
