#!/usr/bin/env bash
# PagerDuty without an account: the sandbox of this project with PagerDuty's own client, the package pagerduty (MIT), as its judge. With
# PagerDuty's description, prism is another one, as a proxy in front of the sandbox.
#   pagerduty.sh start DIR | stop DIR
#
# AAM_PAGERDUTY_DESCRIPTION names reference/REST/openapiv3.json of PagerDuty/api-schema. It is not in this repository and in no package
# registry, so prism is started only where it is set.
# DIR/env: SANDBOX (the sandbox as an HTTP proxy), CA (the file with its authority), PYTHON and SCRIPT (the client as a caller), and with
# the description CHECKED (base address of prism).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/checked.pid" prism
  end "$dir/sandbox.pid" aam-sandbox
}

start() {
  local client
  mkdir -p "$dir"
  : >"$dir/env"
  client=$(venv pagerduty-7.2.0 'pagerduty==7.2.0')
  installed
  sandbox "$dir" pagerduty --http api.pagerduty.com=127.0.0.1:0 || { stop; return 1; }
  {
    echo "SANDBOX=http://$(sandbox_address "$dir" proxy)"
    echo "CA=$dir/state/ca.pem"
    echo "PYTHON=$client/bin/python"
    echo "SCRIPT=$here/pagerduty_check.py"
  } >>"$dir/env"
  [ -n "${AAM_PAGERDUTY_DESCRIPTION:-}" ] || return 0
  node "$here/prism_slice.js" "$AAM_PAGERDUTY_DESCRIPTION" "$dir/slice.json" /users /users/me /services /teams /escalation_policies /schedules
  # The address of the sandbox has a port and no domain, which is not of prism's format `url`.
  sed -i 's/"format":"url",//g; s/,"format":"url"//g' "$dir/slice.json"
  prism "$dir" checked proxy "$dir/slice.json" "http://$(sandbox_address "$dir" http api.pagerduty.com)" --errors || { stop; return 1; }
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
