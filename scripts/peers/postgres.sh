#!/usr/bin/env bash
# A PostgreSQL server for the tests, on loopback: postgres.sh start DIR | stop DIR
#
# DIR/env: HOST PORT DATABASE CA_FILE (of the certificate for localhost) SUPER SUPER_PASSWORD and for each role of seed.sql
# READER_PASSWORD BLIND_PASSWORD WRITER_PASSWORD; POOLER_PORT is the port of a PgBouncer in front of the server. The
# passwords are generated at each start.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

# Prints the folder of the newest installed server. The Debian package does not put its programs on PATH.
find_bin() {
  local all
  all=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
  if [ -n "$all" ] && [ -x "$all/initdb" ]; then echo "$all"; else dirname "$(command -v initdb 2>/dev/null)" 2>/dev/null; fi
}

start() {
  local bin user port secret
  bin=$(find_bin) || true
  if [ -z "$bin" ] || [ "$bin" = . ]; then
    install postgresql
    bin=$(find_bin)
  fi
  user=$(server_user postgres)
  mkdir -p "$dir/run"
  new_secret >"$dir/super"
  chmod 600 "$dir/super"
  certify "$dir"
  if [ "$(id -u)" = 0 ]; then chown -R "$user" "$dir"; fi
  cd "$dir"
  as_user "$user" "$bin/initdb" -D "$dir/data" -U super --auth=scram-sha-256 --pwfile="$dir/super" -E UTF8 --locale=C --no-sync >"$dir/initdb.log" 2>&1 ||
    { cat "$dir/initdb.log" >&2; exit 1; }
  # The data need not survive a crash, so the server may be fast.
  cat >>"$dir/data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = '$dir/run'
fsync = off
synchronous_commit = off
full_page_writes = off
max_connections = 60
log_statement = 'all'
ssl = on
ssl_cert_file = '$dir/server.crt'
ssl_key_file = '$dir/server.key'
CONF
  for _ in 1 2 3; do
    port=$(free_port)
    if as_user "$user" "$bin/pg_ctl" -D "$dir/data" -w -t 30 -l "$dir/log" -o "-p $port" start >/dev/null 2>&1; then break; fi
    port=
  done
  [ -n "$port" ] || { tail -n 20 "$dir/log" >&2; exit 1; }
  secret=$(cat "$dir/super")
  {
    echo "HOST=127.0.0.1"
    echo "PORT=$port"
    echo "DATABASE=shop"
    echo "CA_FILE=$dir/ca.pem"
    echo "SUPER=super"
    echo "SUPER_PASSWORD=$secret"
    for role in READER BLIND WRITER; do echo "${role}_PASSWORD=$(new_secret)"; done
  } >"$dir/env"
  set -a
  . "$dir/env"
  set +a
  PGPASSWORD=$secret "$bin/createdb" -h 127.0.0.1 -p "$port" -U super shop
  PGPASSWORD=$secret "$bin/psql" -q -X -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U super -d shop \
    -v reader="$READER_PASSWORD" -v blind="$BLIND_PASSWORD" -v writer="$WRITER_PASSWORD" -f "$here/postgres.seed.sql" >/dev/null
  pooler "$user"
}

# Starts PgBouncer in transaction mode in front of the server, a setup that is common in companies.
pooler() {
  command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ] || install pgbouncer
  local user=$1 port
  printf '"reader" "%s"\n' "$READER_PASSWORD" >"$dir/pooler.users"
  for _ in 1 2 3; do
    port=$(free_port)
    cat >"$dir/pooler.ini" <<CONF
[databases]
shop = host=127.0.0.1 port=$PORT dbname=shop
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir =
auth_type = scram-sha-256
auth_file = $dir/pooler.users
pool_mode = transaction
default_pool_size = 2
logfile = $dir/pooler.log
pidfile = $dir/pooler.pid
CONF
    if as_user "$user" env PATH="$PATH:/usr/sbin" pgbouncer -q -d "$dir/pooler.ini" >>"$dir/pooler.out" 2>&1; then
      echo "POOLER_PORT=$port" >>"$dir/env"
      return 0
    fi
  done
  cat "$dir/pooler.out" "$dir/pooler.log" >&2
  return 1
}

stop() {
  [ -d "$dir/data" ] || return 0
  if [ -s "$dir/pooler.pid" ]; then kill "$(cat "$dir/pooler.pid")" 2>/dev/null || true; fi
  local bin
  bin=$(find_bin)
  cd "$dir"
  as_user "$(stat -c %U "$dir/data")" "$bin/pg_ctl" -D "$dir/data" -m immediate -w -t 10 stop >/dev/null 2>&1 || true
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
