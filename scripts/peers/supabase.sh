#!/usr/bin/env bash
# Supabase without a project: the sandbox of this project with @supabase/postgrest-js as its judge. PostgREST itself is in no package
# registry. The database of a project is tested with the peer postgres.
#   supabase.sh start DIR | stop DIR
#
# DIR/env: PLAIN (the sandbox's project acme without TLS), NODE and SCRIPT (the client as a caller), MODULES (its node_modules).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/sandbox.pid" aam-sandbox
}

start() {
  local modules
  mkdir -p "$dir"
  modules=$(npm_modules postgrest-js-2.119.1 @supabase/postgrest-js@2.119.1)
  installed
  sandbox "$dir" supabase --http acme.supabase.co=127.0.0.1:0 || { stop; return 1; }
  {
    echo "PLAIN=http://$(sandbox_address "$dir" http acme.supabase.co)"
    echo "NODE=$(command -v node)"
    echo "SCRIPT=$here/supabase_check.js"
    echo "MODULES=$modules"
  } >"$dir/env"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
