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

start() {
  mkdir -p "$dir"
  : >"$dir/env"
  : "${AAM_SNOWFLAKE_DESCRIPTION:?the file with the description of the SQL API}"
  installed
  sandbox "$dir" snowflake --http acme-prod.snowflakecomputing.com=127.0.0.1:0 || { stop; return 1; }
  # The examples of the documentation have relative addresses, handles that are not UUIDs of RFC 9562, and null for what a type
  # does not have; the description knows none of these.
  sed -e '/^ *format: \(uri\|uuid\)$/d' -e 's/^\( *\)minimum: 0$/\1minimum: 0\n\1nullable: true/' \
    "$AAM_SNOWFLAKE_DESCRIPTION" >"$dir/sqlapi.yaml"
  prism "$dir" mock mock "$dir/sqlapi.yaml" --errors || { stop; return 1; }
  prism "$dir" checked proxy "$dir/sqlapi.yaml" "http://$(sandbox_address "$dir" http acme-prod.snowflakecomputing.com)" --errors || {
    stop
    return 1
  }
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
