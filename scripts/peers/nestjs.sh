#!/usr/bin/env bash
# A NestJS service on loopback for the tests of the openapi engine: nestjs.sh start DIR | stop DIR
#
# DIR/env: URL TOKEN.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}
PACKAGES=(@nestjs/core@12.5.1 @nestjs/common@12.5.1 @nestjs/platform-express@12.5.1 @nestjs/swagger@12.0.2
  reflect-metadata@0.2.2 rxjs@7.8.2)

stop() {
  end "$dir/server.pid" nestjs_app
}

start() {
  local modules token port
  mkdir -p "$dir"
  modules=$(npm_modules nestjs-12.5.1 "${PACKAGES[@]}")
  token=$(new_secret)
  installed
  port=$(free_port)
  TOKEN=$token PORT=$port MODULES=$modules setsid node "$here/nestjs_app.js" >"$dir/server.log" 2>&1 </dev/null &
  echo $! >"$dir/server.pid"
  await_http "$dir/server.pid" "http://127.0.0.1:$port/api-json" "$dir/server.log" || { stop; return 1; }
  printf '%s\n' "URL=http://127.0.0.1:$port" "TOKEN=$token" >"$dir/env"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
