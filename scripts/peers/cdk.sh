#!/usr/bin/env bash
# airbyte-cdk, the reference of the low-code engine: cdk.sh start DIR | stop DIR
#
# It is a command, not a server: start installs it, and stop does nothing.
# DIR/env: PYTHON (an interpreter with the package), COMMAND (`source-declarative-manifest`), RUNNER (cdk_run.py, which
# runs many commands in one process).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}
VERSION=7.39.1

start() {
  local venv
  mkdir -p "$dir"
  venv=$(venv "airbyte-cdk-$VERSION" "airbyte-cdk==$VERSION")
  # Compiles the package once, so that a comparison of times does not include the compilation.
  [ -e "$venv/.compiled" ] || { "$venv/bin/python" -m compileall -q -j 0 "$venv/lib" >/dev/null 2>&1 || true; touch "$venv/.compiled"; }
  printf '%s\n' "PYTHON=$venv/bin/python" "COMMAND=$venv/bin/source-declarative-manifest" "RUNNER=$here/cdk_run.py" >"$dir/env"
}

stop() {
  :
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
