#!/usr/bin/env bash
# NetSuite without an account: the sandbox of this project with a judge, the connector airbyte-source-netsuite.
#   netsuite.sh start DIR | stop DIR
#
# DIR/env: SANDBOX (the sandbox as an HTTP proxy), CA (the file with its authority), CONNECTOR (the connector's program).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/sandbox.pid" aam-sandbox
}

start() {
  local connector
  mkdir -p "$dir"
  connector=$(venv airbyte-source-netsuite-0.1.29 'airbyte-source-netsuite==0.1.29')
  installed
  sandbox "$dir" netsuite || { stop; return 1; }
  {
    echo "SANDBOX=http://$(sandbox_address "$dir" proxy)"
    echo "CA=$dir/state/ca.pem"
    echo "CONNECTOR=$connector/bin/source-netsuite"
  } >"$dir/env"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
