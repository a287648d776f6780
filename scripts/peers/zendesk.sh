#!/usr/bin/env bash
# Zendesk without an account: the sandbox of this project with two judges, the package zenpy (GPL-3.0) and the connector
# airbyte-source-zendesk-support. With Zendesk's description, prism is a third one, as a proxy in front of the sandbox.
#   zendesk.sh start DIR | stop DIR
#
# AAM_ZENDESK_DESCRIPTION names the description of the Support API (YAML or JSON) that developer.zendesk.com publishes. It is not in this
# repository and in no package registry, so prism is started only where it is set.
# DIR/env: SANDBOX (the sandbox as an HTTP proxy), PLAIN (its acme.zendesk.com without TLS), CA (the file with its authority), PYTHON and SCRIPT (zenpy as a caller), CONNECTOR (the
# connector's program), PYTHONPATH (for it), and with the description CHECKED (base address of prism).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/checked.pid" prism
  end "$dir/sandbox.pid" aam-sandbox
}

# slice: keeps the calls of AAM. Zendesk's examples write each path with .json behind it; the description leaves it out. It declares no
# security, although all calls but that of the user need it.
slice() {
  "$(venv pyyaml-6.0.3 'PyYAML==6.0.3')/bin/python" - "$1" "$2" <<'PY'
import json, sys, yaml
whole = yaml.safe_load(open(sys.argv[1]))
names = ["users/me", "oauth/tokens/{oauth_token_id}", "ticket_fields", "user_fields", "organization_fields", "groups", "brands"]
kept = {"openapi": whole["openapi"], "info": {"title": "Zendesk", "version": "2"}, "security": [{"bearer": []}, {"basic": []}], "paths": {}}
cursor = [{"name": name, "in": "query", "schema": {"type": kind}} for name, kind in (("page[size]", "integer"), ("page[after]", "string"))]
for name in names:
    path = whole["paths"][f"/api/v2/{name}"]
    operation = {**path["get"], "parameters": path["get"].get("parameters", []) + cursor}
    kept["paths"][f"/api/v2/{name}.json"] = {"parameters": path.get("parameters", []), "get": operation}
kept["components"] = {**whole["components"], "securitySchemes": {scheme: {"type": "http", "scheme": scheme} for scheme in ("bearer", "basic")}}
json.dump(kept, open(sys.argv[2], "w"))
PY
}

start() {
  local client connector
  mkdir -p "$dir"
  : >"$dir/env"
  client=$(venv zenpy-2.0.57 'zenpy==2.0.57')
  connector=$(venv airbyte-source-zendesk-support-4.9.1 'airbyte-source-zendesk-support==4.9.1')
  installed
  trust "$dir/trust"
  sandbox "$dir" zendesk --http acme.zendesk.com=127.0.0.1:0 || { stop; return 1; }
  {
    echo "SANDBOX=http://$(sandbox_address "$dir" proxy)"
    echo "PLAIN=http://$(sandbox_address "$dir" http acme.zendesk.com)"
    echo "CA=$dir/state/ca.pem"
    echo "PYTHON=$client/bin/python"
    echo "SCRIPT=$here/zendesk_check.py"
    echo "CONNECTOR=$connector/bin/source-zendesk-support"
    echo "PYTHONPATH=$dir/trust"
  } >>"$dir/env"
  [ -n "${AAM_ZENDESK_DESCRIPTION:-}" ] || return 0
  slice "$AAM_ZENDESK_DESCRIPTION" "$dir/whole.json"
  node "$here/prism_slice.js" "$dir/whole.json" "$dir/slice.json" $(node -e 'console.log(Object.keys(require(process.argv[1]).paths).join(" "))' "$dir/whole.json")
  prism "$dir" checked proxy "$dir/slice.json" "http://$(sandbox_address "$dir" http acme.zendesk.com)" --errors || { stop; return 1; }
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
