#!/usr/bin/env bash
# snowduck, a local server of Snowflake's SQL API; snowflake-connector-python, whose key-pair tokens are compared with those of
# AAM; and the Snowflake of this project's sandbox, which has to accept them: snowduck.sh start DIR | stop DIR
#
# DIR/env: URL (the server accepts any token), PYTHON (with the connector), TOKEN_SCRIPT (prints the token that the connector
# signs: TOKEN_SCRIPT ACCOUNT USER, the key as PEM on its standard input), SANDBOX (the account acme-prod of the sandbox),
# CREDENTIALS (its credentials.json).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/snowduck.pid" snowduck
  end "$dir/sandbox.pid" aam-sandbox
}

start() {
  local venv port
  mkdir -p "$dir"
  # Later versions of sqlglot do not have what snowduck 0.3.0 imports.
  venv=$(venv snowduck-0.3.0 'snowduck[server]==0.3.0' 'sqlglot[c]==30.18.0' 'snowflake-connector-python==4.8.1')
  installed
  port=$(free_port)
  (cd "$dir" && exec setsid "$venv/bin/snowduck" --port "$port") >"$dir/snowduck.log" 2>&1 </dev/null &
  echo $! >"$dir/snowduck.pid"
  await_http "$dir/snowduck.pid" "http://127.0.0.1:$port/api/v2/query-history" "$dir/snowduck.log" || { stop; return 1; }
  sandbox "$dir" snowflake --http acme-prod.snowflakecomputing.com=127.0.0.1:0 || { stop; return 1; }
  {
    echo "SANDBOX=http://$(sandbox_address "$dir" http acme-prod.snowflakecomputing.com)"
    echo "CREDENTIALS=$dir/state/credentials.json"
    echo "URL=http://127.0.0.1:$port"
    echo "PYTHON=$venv/bin/python"
    echo "TOKEN_SCRIPT=$here/snowflake_token.py"
  } >"$dir/env"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
