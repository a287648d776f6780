#!/usr/bin/env bash
# GitLab without a server: the sandbox of this project with two judges, the package python-gitlab (LGPL-3.0) and the connector
# airbyte-source-gitlab.
#   gitlab.sh start DIR | stop DIR
#
# DIR/env: SANDBOX (the sandbox as an HTTP proxy), PLAIN (its gitlab.com without TLS), CA (the file with its authority), PYTHON and
# SCRIPT (python-gitlab as a caller), CONNECTOR (the connector's program).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/sandbox.pid" aam-sandbox
}

# address KEY...: prints a value of the sandbox's addresses.
address() {
  python3 -c 'import json, sys
value = json.load(open(sys.argv[1]))
for key in sys.argv[2:]: value = value[key]
print(value)' "$dir/state/addresses.json" "$@"
}

start() {
  local client connector binary n=0
  mkdir -p "$dir"
  client=$(venv python-gitlab-8.6.0 'python-gitlab==8.6.0')
  connector=$(venv airbyte-source-gitlab-4.3.7 'airbyte-source-gitlab==4.3.7')
  (cd "$here/../.." && cargo build --quiet -p aam-sandbox)
  binary=${CARGO_TARGET_DIR:-$here/../../target}/debug/aam-sandbox
  setsid "$binary" --vendors "$here/../../sandbox" --only gitlab --proxy 127.0.0.1:0 --http gitlab.com=127.0.0.1:0 \
    --state "$dir/state" >"$dir/sandbox.log" 2>&1 </dev/null &
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
  {
    echo "SANDBOX=http://$(address proxy)"
    echo "PLAIN=http://$(address http gitlab.com)"
    echo "CA=$dir/state/ca.pem"
    echo "PYTHON=$client/bin/python"
    echo "SCRIPT=$here/gitlab_check.py"
    echo "CONNECTOR=$connector/bin/source-gitlab"
  } >"$dir/env"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
