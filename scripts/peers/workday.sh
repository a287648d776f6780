#!/usr/bin/env bash
# Workday without a tenant: prism with a description of the common service v1 as a proxy before the sandbox of this project, where it
# refuses calls and answers that do not fit the description.
#   workday.sh start DIR | stop DIR
#
# AAM_WORKDAY_DESCRIPTION names the description: openapi.yaml of workday.common in ballerina-platform/openapi-connectors
# (Apache-2.0). It is not in this repository and in no package registry, so the peer is started only where it is set.
# DIR/env: CHECKED (base address of the proxy).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/checked.pid" prism
  end "$dir/sandbox.pid" aam-sandbox
}

# slice: keeps the lists that AAM reads, at the path of the tenant. The description declares the flow of people only; every call
# carries a token as Bearer. It does not describe the data sources of WQL.
slice() {
  "$venv/bin/python" - "$1" "$2" <<'PY'
import json, sys, yaml
whole = yaml.safe_load(open(sys.argv[1]))
kept = {
    "openapi": whole["openapi"],
    "info": {"title": whole["info"]["title"], "version": whole["info"]["version"]},
    "security": [{"bearer": []}],
    "paths": {},
    "components": {"schemas": whole["components"]["schemas"], "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
}
tenant = {"name": "tenant", "in": "path", "required": True, "schema": {"type": "string"}}
for path in ("/workers", "/supervisoryOrganizations", "/organizationTypes"):
    get = whole["paths"][path]["get"]
    get["parameters"] = [tenant, *get["parameters"]]
    kept["paths"]["/ccx/api/v1/{tenant}" + path] = {"get": get}
# The sandbox is on loopback, which the format url excludes.
def without_format(node):
    if isinstance(node, dict):
        if node.get("format") == "url":
            del node["format"]
        for value in node.values():
            without_format(value)
    elif isinstance(node, list):
        for value in node:
            without_format(value)
without_format(kept)
json.dump(kept, open(sys.argv[2], "w"))
PY
}

start() {
  local venv
  mkdir -p "$dir"
  : >"$dir/env"
  : "${AAM_WORKDAY_DESCRIPTION:?the file with the description of the common service}"
  venv=$(venv pyyaml-6.0.3 'PyYAML==6.0.3')
  installed
  slice "$AAM_WORKDAY_DESCRIPTION" "$dir/common.json"
  sandbox "$dir" workday --http wd2-impl-services1.workday.com=127.0.0.1:0 || { stop; return 1; }
  prism "$dir" checked proxy "$dir/common.json" "http://$(sandbox_address "$dir" http wd2-impl-services1.workday.com)" --errors || { stop; return 1; }
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
