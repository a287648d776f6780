#!/usr/bin/env bash
# A ChromaDB server on loopback with two collections, for the tests of the openapi engine: chromadb.sh start DIR | stop DIR
#
# DIR/env: URL.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/server.pid" chroma
}

# collection URL NAME: creates a collection.
collection() {
  python3 - "$1/api/v2/tenants/default_tenant/databases/default_database/collections" "$2" <<'PY'
import json, sys, urllib.request
body = json.dumps({"name": sys.argv[2]}).encode()
urllib.request.urlopen(urllib.request.Request(sys.argv[1], body, {"content-type": "application/json"}), timeout=10)
PY
}

start() {
  local venv port url
  mkdir -p "$dir"
  venv=$(venv chromadb-1.5.9 'chromadb==1.5.9')
  installed
  port=$(free_port)
  url=http://127.0.0.1:$port
  ANONYMIZED_TELEMETRY=False setsid "$venv/bin/chroma" run --host 127.0.0.1 --port "$port" --path "$dir/data" \
    >"$dir/server.log" 2>&1 </dev/null &
  echo $! >"$dir/server.pid"
  await_http "$dir/server.pid" "$url/openapi.json" "$dir/server.log" || { stop; return 1; }
  collection "$url" invoices
  collection "$url" contracts
  echo "URL=$url" >"$dir/env"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
