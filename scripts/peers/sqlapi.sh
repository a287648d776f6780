#!/usr/bin/env bash
# Snowflake's SQL API without an account: prism with Snowflake's own description of the API as a mock, and as a proxy before the
# sandbox of this project, where it refuses calls and answers that do not fit the description.
#   sqlapi.sh start DIR | stop DIR
#
# AAM_SNOWFLAKE_DESCRIPTION names the description: specifications/sqlapi.yaml of snowflakedb/snowflake-rest-api-specs
# (Apache-2.0). It is not in this repository and in no package registry, so the peer is started only where it is set.
# DIR/env: MOCK, CHECKED (base addresses of the mock and of the proxy).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/checked.pid" prism
  end "$dir/mock.pid" prism
  end "$dir/sandbox.pid" aam-sandbox
}

# prism NAME ARGUMENT...: starts prism and waits until it answers.
prism() {
  local name=$1 port n=0
  shift
  port=$(free_port)
  setsid node "$modules/@stoplight/prism-cli/dist/index.js" "$@" -h 127.0.0.1 -p "$port" >"$dir/$name.log" 2>&1 </dev/null &
  echo $! >"$dir/$name.pid"
  while [ "$n" -lt 600 ]; do
    if grep -q "Prism is listening" "$dir/$name.log"; then
      echo "${name^^}=http://127.0.0.1:$port" >>"$dir/env"
      return 0
    fi
    kill -0 "$(cat "$dir/$name.pid")" 2>/dev/null || break
    n=$((n + 1))
    sleep 0.1
  done
  tail -n 20 "$dir/$name.log" >&2
  stop
  return 1
}

start() {
  mkdir -p "$dir"
  : >"$dir/env"
  : "${AAM_SNOWFLAKE_DESCRIPTION:?the file with the description of the SQL API}"
  modules=$(npm_modules prism-5.16.0 @stoplight/prism-cli@5.16.0 @octokit/openapi@23.0.2)
  sandbox "$dir" snowflake --http acme-prod.snowflakecomputing.com=127.0.0.1:0 || { stop; return 1; }
  # The examples of the documentation have relative addresses, handles that are not UUIDs of RFC 9562, and null for what a type
  # does not have; the description knows none of these.
  sed -e '/^ *format: \(uri\|uuid\)$/d' -e 's/^\( *\)minimum: 0$/\1minimum: 0\n\1nullable: true/' \
    "$AAM_SNOWFLAKE_DESCRIPTION" >"$dir/sqlapi.yaml"
  prism mock mock "$dir/sqlapi.yaml" --errors
  prism checked proxy "$dir/sqlapi.yaml" "http://$(sandbox_address "$dir" http acme-prod.snowflakecomputing.com)" --errors
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
