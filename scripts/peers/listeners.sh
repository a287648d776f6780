#!/usr/bin/env bash
# Programs of others that listen to AAM: the official library of Standard Webhooks, the parser of prometheus_client, and a
# client of server-sent events.
#   listeners.sh start DIR | stop DIR
#
# DIR/env: PYTHON and SCRIPT.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  :
}

start() {
  local client
  mkdir -p "$dir"
  client=$(venv listeners-1 'standardwebhooks==1.1.0' 'prometheus_client==0.26.0' 'httpx-sse==0.4.3' 'httpx==0.28.1')
  printf '%s\n' "PYTHON=$client/bin/python" "SCRIPT=$here/listeners_check.py" >"$dir/env"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
