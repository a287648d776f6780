#!/usr/bin/env bash
# AWS without a server: the sandbox of this project with boto3, the official client, as a judge. moto has its own script, because it
# verifies keys itself; it has no answers for the Data API of Redshift.
#   boto3.sh start DIR | stop DIR
#
# DIR/env: SANDBOX (the sandbox as an HTTP proxy), PLAIN (its Organizations without TLS), REDSHIFT (its Data API without TLS), CA (the
# file with its authority), PYTHON and SCRIPT (boto3 as a caller).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/sandbox.pid" aam-sandbox
}

start() {
  local client organizations=organizations.us-east-1.amazonaws.com redshift=redshift-data.eu-central-1.amazonaws.com
  mkdir -p "$dir"
  # The environment of moto, which contains boto3.
  client=$(venv moto-5.2.5 'moto[s3]==5.2.5' 'flask==3.1.3' 'flask-cors==6.0.5')
  installed
  sandbox "$dir" aws_org,redshift --http $organizations=127.0.0.1:0 --http $redshift=127.0.0.1:0 || { stop; return 1; }
  {
    echo "SANDBOX=http://$(sandbox_address "$dir" proxy)"
    echo "PLAIN=http://$(sandbox_address "$dir" http $organizations)"
    echo "REDSHIFT=http://$(sandbox_address "$dir" http $redshift)"
    echo "CA=$dir/state/ca.pem"
    echo "PYTHON=$client/bin/python"
    echo "SCRIPT=$here/boto3_check.py"
  } >"$dir/env"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
