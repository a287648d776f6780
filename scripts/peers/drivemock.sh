#!/usr/bin/env bash
# google-drive-mock: a mock of the Drive API v3 with two fixed tokens; and google-api-python-client, the official client, which
# has to accept the Drive of this project's sandbox: drivemock.sh start DIR | stop DIR
#
# DIR/env: URL (the address below which about and files of the mock are), SANDBOX (the sandbox as an HTTP proxy), CA (the file
# with its authority), CREDENTIALS (its credentials.json), PYTHON (with the client), SCRIPT (see drive_check.py).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/drivemock.pid" google-drive-mock
  end "$dir/sandbox.pid" aam-sandbox
}

start() {
  local modules port venv
  mkdir -p "$dir"
  modules=$(npm_modules google-drive-mock-1.2.0 google-drive-mock@1.2.0 cors express)
  venv=$(venv google-api-python-client-2.202.0 'google-api-python-client==2.202.0' 'requests==2.32.5')
  installed
  port=$(free_port)
  NODE_PATH=$modules setsid node -e \
    'require(process.argv[2] + "/google-drive-mock").startServer(Number(process.argv[1]), "127.0.0.1")' \
    "$port" "$modules" google-drive-mock >"$dir/drivemock.log" 2>&1 </dev/null &
  echo $! >"$dir/drivemock.pid"
  await_http "$dir/drivemock.pid" "http://127.0.0.1:$port/" "$dir/drivemock.log" || { stop; return 1; }
  sandbox "$dir" gworkspace_drive || { stop; return 1; }
  {
    echo "URL=http://127.0.0.1:$port/drive/v3"
    echo "SANDBOX=http://$(sandbox_address "$dir" proxy)"
    echo "CA=$dir/state/ca.pem"
    echo "CREDENTIALS=$dir/state/credentials.json"
    echo "PYTHON=$venv/bin/python"
    echo "SCRIPT=$here/drive_check.py"
  } >"$dir/env"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
