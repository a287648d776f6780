#!/usr/bin/env bash
# moto, a server with the APIs of S3, IAM, STS and Organizations, in auth mode: it verifies signatures and IAM policies.
#   moto.sh start DIR | stop DIR
#
# DIR/env: ENDPOINT, and for each user of moto_seed.py NAME_KEY_ID NAME_SECRET; SESSION_TOKEN; ROLE, EXTERNAL_ID,
# FEDERATED_ROLE, ORG and MANAGEMENT (the ids of an organization and of its management account), WEB_TOKEN, WEB_TOKEN_AUDIENCE,
# WEB_TOKEN_SUBJECT and WEB_TOKEN_EXPIRED.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}
VERSION=5.2.5

stop() {
  end "$dir/moto.pid" moto_server.py
}

start() {
  local venv port
  mkdir -p "$dir"
  # Not moto[server]: it would also install parsers of templates and schemas that S3, IAM and STS do not use.
  venv=$(venv "moto-$VERSION" "moto[s3]==$VERSION" 'flask==3.1.3' 'flask-cors==6.0.5')
  installed
  port=$(free_port)
  # moto does not verify the first calls, so that the seed can be written. moto_seed.py sets the count to 0 afterwards.
  # Without this variable moto never verifies anything.
  INITIAL_NO_AUTH_ACTION_COUNT=100000 MOTO_WEB_IDENTITY_KEY="$dir/web-identity.pem" \
    setsid "$venv/bin/python" "$here/moto_server.py" -H 127.0.0.1 -p "$port" \
    >"$dir/moto.log" 2>&1 </dev/null &
  echo $! >"$dir/moto.pid"
  if ! "$venv/bin/python" "$here/moto_seed.py" "http://127.0.0.1:$port" "$dir/env"; then
    tail -n 20 "$dir/moto.log" >&2
    stop
    return 1
  fi
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
