#!/usr/bin/env bash
# oidc-provider, a certified OAuth 2 and OpenID Connect server, with a resource API: oidc.sh start DIR | stop DIR
#
# DIR/env: URL (also the issuer), TOKEN_URL, AUTHORIZE_URL, REVOKE_URL, API_URL, PASSWORD_FILE, and for each client and
# each key of oidc_app.js what its head says. Secrets are in files below DIR; the lines of DIR/env name their paths.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}
VERSION=9.13.3

stop() {
  end "$dir/server.pid" oidc_app
}

start() {
  local modules port
  mkdir -p "$dir"
  chmod 700 "$dir"
  modules=$(npm_modules "oidc-provider-$VERSION" "oidc-provider@$VERSION")
  installed
  port=$(free_port)
  DIR=$dir PORT=$port MODULES=$modules setsid node "$here/oidc_app.js" >"$dir/server.log" 2>&1 </dev/null &
  echo $! >"$dir/server.pid"
  await_http "$dir/server.pid" "http://127.0.0.1:$port/.well-known/openid-configuration" "$dir/server.log" || { stop; return 1; }
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
