#!/usr/bin/env bash
# A company's own Airbyte without an installation: the sandbox of this project with two judges, Airbyte's own client (the package
# airbyte-api, MIT), and prism with Airbyte's descriptions of both APIs as proxies before the sandbox, where it refuses calls and
# answers that do not fit.
#   airbyte_platform.sh start DIR | stop DIR
#
# AAM_AIRBYTE_DESCRIPTIONS names a folder with airbyte-config-api.yaml and airbyte-api.yaml: config.yaml and api.yaml of
# airbytehq/airbyte-platform. They are not in this repository and in no package registry, so prism is started only where it is set.
# DIR/env: PYTHON and SCRIPT (the client as a caller), SERVED (the address of the sandbox's Airbyte), and with the descriptions
# CHECKED and PUBLIC (the addresses of both proxies).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/checked.pid" prism
  end "$dir/public.pid" prism
  end "$dir/sandbox.pid" aam-sandbox
  end "$dir/client/sandbox.pid" aam-sandbox
}

# slice DESCRIPTION OUT PREFIX: puts the prefix before each path, and keeps no call that makes a connection or deletes, so that prism
# refuses those. The description of a stream requires a key by another name than it has.
slice() {
  "$venv/bin/python" - "$1" "$2" "$3" <<'PY'
import json, sys, yaml
source, out, prefix = sys.argv[1:]
whole = yaml.safe_load(open(source))
whole.pop("servers", None)
kept = {}
for path, item in whole["paths"].items():
    if "connections" in path or "jobs" in path:
        continue
    kept[prefix + path] = {key: value for key, value in item.items() if key in ("get", "post", "parameters")}
whole["paths"] = kept
# One of them requires nothing of a caller, which prism takes for a scheme that it does not know.
whole["security"] = [{"bearerAuth": []}]
stream = whole["components"]["schemas"].get("AirbyteStream")
if stream:
    stream["required"] = ["jsonSchema" if name == "json_schema" else name for name in stream["required"]]
json.dump(whole, open(out, "w"), default=str)
PY
}

start() {
  local venv client base
  mkdir -p "$dir/client"
  : >"$dir/env"
  client=$(venv airbyte-api-1.0.1 'airbyte-api==1.0.1')
  installed
  sandbox "$dir" airbyte --http acme.airbyte.example=127.0.0.1:0 || { stop; return 1; }
  base=http://$(sandbox_address "$dir" http acme.airbyte.example)
  # The client cannot read the config of an Okta source, which the calls through prism create, so it has a sandbox of its own.
  sandbox "$dir/client" airbyte --http acme.airbyte.example=127.0.0.1:0 || { stop; return 1; }
  {
    echo "PYTHON=$client/bin/python"
    echo "SCRIPT=$here/airbyte_platform_check.py"
    echo "SERVED=http://$(sandbox_address "$dir/client" http acme.airbyte.example)"
  } >>"$dir/env"
  [ -n "${AAM_AIRBYTE_DESCRIPTIONS:-}" ] || return 0
  venv=$(venv pyyaml-6.0.3 'PyYAML==6.0.3')
  slice "$AAM_AIRBYTE_DESCRIPTIONS/airbyte-config-api.yaml" "$dir/config.json" /api
  slice "$AAM_AIRBYTE_DESCRIPTIONS/airbyte-api.yaml" "$dir/public.json" /api/public/v1
  prism "$dir" checked proxy "$dir/config.json" "$base" --errors || { stop; return 1; }
  prism "$dir" public proxy "$dir/public.json" "$base" --errors || { stop; return 1; }
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
