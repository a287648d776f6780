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

# prism NAME MODE ARGUMENT...: starts prism and waits until it answers.
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
  local venv binary n=0
  mkdir -p "$dir"
  : >"$dir/env"
  : "${AAM_SERVICENOW_DESCRIPTION:?the file with the description of the Table API}"
  venv=$(venv pyyaml-6.0.3 'PyYAML==6.0.3')
  modules=$(npm_modules prism-5.16.0 @stoplight/prism-cli@5.16.0 @octokit/openapi@23.0.2)
  slice "$AAM_SERVICENOW_DESCRIPTION" "$dir/table.json"
  (cd "$here/../.." && cargo build --quiet -p aam-sandbox)
  binary=${CARGO_TARGET_DIR:-$here/../../target}/debug/aam-sandbox
  setsid "$binary" --vendors "$here/../../sandbox" --only servicenow --proxy 127.0.0.1:0 \
    --http acme.service-now.com=127.0.0.1:0 --state "$dir/state" >"$dir/sandbox.log" 2>&1 </dev/null &
  echo $! >"$dir/sandbox.pid"
  while [ ! -s "$dir/state/addresses.json" ]; do
    n=$((n + 1))
    if [ "$n" -gt 300 ] || ! kill -0 "$(cat "$dir/sandbox.pid")" 2>/dev/null; then
      tail -n 20 "$dir/sandbox.log" >&2
      stop
      return 1
    fi
    sleep 0.1
  done
  local sandbox
  sandbox=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["http"]["acme.service-now.com"])' "$dir/state/addresses.json")
  prism checked proxy "$dir/table.json" "http://$sandbox" --errors
  prism mock mock "$dir/table.json"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
