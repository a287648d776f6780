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

start() {
  local client connector
  mkdir -p "$dir"
  client=$(venv python-gitlab-8.6.0 'python-gitlab==8.6.0')
  connector=$(venv airbyte-source-gitlab-4.3.7 'airbyte-source-gitlab==4.3.7')
  installed
  sandbox "$dir" gitlab --http gitlab.com=127.0.0.1:0 || { stop; return 1; }
  {
    echo "SANDBOX=http://$(sandbox_address "$dir" proxy)"
    echo "PLAIN=http://$(sandbox_address "$dir" http gitlab.com)"
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
