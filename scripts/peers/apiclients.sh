#!/usr/bin/env bash
# Programs that use the API of AAM: openapi-typescript with openapi-fetch and tsc, openapi-python-client with mypy, Schemathesis,
# and the reference client of the Model Context Protocol. apiclients.sh start DIR | stop DIR
#
# DIR/env: BIN (the programs of the Python packages), MODULES (the npm packages), SCRIPTS (this folder).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() { :; }

start() {
  local venv modules
  mkdir -p "$dir"
  venv=$(venv apiclients-1 'schemathesis==4.32.5' 'openapi-python-client==0.29.1' 'mypy==2.4.1' 'mcp==2.3.0')
  modules=$(npm_modules apiclients-1.npm openapi-typescript@7.13.0 openapi-fetch@0.17.0 typescript@5.9.3 @types/node@20.19.0)
  printf '%s\n' "BIN=$venv/bin" "MODULES=$modules" "SCRIPTS=$here" >"$dir/env"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
