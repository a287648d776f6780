#!/usr/bin/env bash
# ServiceNow without an instance: prism with a description of the Table API as a mock, and as a proxy before the sandbox of this
# project, where it refuses calls and answers that do not fit the description.
#   servicenow.sh start DIR | stop DIR
#
# AAM_SERVICENOW_DESCRIPTION names the description: openapi.yaml of servicenow in ballerina-platform/openapi-connectors
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

# slice: keeps the call that reads rows. The description names only Bearer, but declares Basic too, which every instance accepts.
slice() {
  "$venv/bin/python" - "$1" "$2" <<'PY'
import json, sys, yaml
whole = yaml.safe_load(open(sys.argv[1]))
path = "/api/now/table/{tableName}"
kept = {
    "openapi": whole["openapi"],
    "info": {"title": whole["info"]["title"], "version": whole["info"]["version"]},
    "security": [{"Bearer": []}, {"basicAuth": []}],
    "paths": {path: {"get": whole["paths"][path]["get"]}},
    "components": {"securitySchemes": {name: whole["components"]["securitySchemes"][name] for name in ("Bearer", "basicAuth")}},
}
json.dump(kept, open(sys.argv[2], "w"))
PY
}

start() {
  local venv
  mkdir -p "$dir"
  : >"$dir/env"
  : "${AAM_SERVICENOW_DESCRIPTION:?the file with the description of the Table API}"
  venv=$(venv pyyaml-6.0.3 'PyYAML==6.0.3')
  installed
  slice "$AAM_SERVICENOW_DESCRIPTION" "$dir/table.json"
  sandbox "$dir" servicenow --http acme.service-now.com=127.0.0.1:0 || { stop; return 1; }
  prism "$dir" checked proxy "$dir/table.json" "http://$(sandbox_address "$dir" http acme.service-now.com)" --errors || { stop; return 1; }
  prism "$dir" mock mock "$dir/table.json" || { stop; return 1; }
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
