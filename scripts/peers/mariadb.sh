#!/usr/bin/env bash
# A MariaDB server for the tests, on loopback: mariadb.sh start DIR | stop DIR
#
# DIR/env: HOST PORT DATABASE DATA (the folder with the databases) CA_FILE (of the certificate for localhost) SUPER SUPER_PASSWORD READER_PASSWORD BLIND_PASSWORD NARROW_PASSWORD
# WRITER_PASSWORD. The passwords are generated at each start.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}
PATH=$PATH:/usr/sbin

start() {
  local user port
  if ! command -v mariadbd >/dev/null || ! command -v mariadb >/dev/null || ! command -v mariadb-install-db >/dev/null; then
    # Only server and client programs: the full package would also start a system service.
    install mariadb-server-core mariadb-client-core
  fi
  user=$(server_user mysql)
  mkdir -p "$dir/tmp"
  plugins
  installed
  certify "$dir"
  if [ "$(id -u)" = 0 ]; then chown -R "$user" "$dir"; fi
  cd "$dir"
  as_user "$user" mariadb-install-db --no-defaults --datadir="$dir/data" --auth-root-authentication-method=normal --skip-test-db >"$dir/install.log" 2>&1 ||
    { tail -n 20 "$dir/install.log" >&2; exit 1; }
  for _ in 1 2 3; do
    port=$(free_port)
    # A socket path may be at most 107 bytes long. A path relative to the data directory is always short enough.
    as_user "$user" mariadbd --no-defaults --datadir="$dir/data" --tmpdir="$dir/tmp" --bind-address=127.0.0.1 --port="$port" \
      --socket=peer.sock --pid-file="$dir/pid" --skip-log-bin --innodb-flush-log-at-trx-commit=0 --innodb-buffer-pool-size=32M \
      --ssl-cert="$dir/server.crt" --ssl-key="$dir/server.key" --character-set-server=utf8mb4 \
      --plugin-dir="$dir/plugins/usr/lib/mysql/plugin" --plugin-load-add=auth_ed25519 >"$dir/log" 2>&1 &
    echo $! >"$dir/starter"
    if wait_until_up "$port"; then break; fi
    port=
  done
  [ -n "$port" ] || { tail -n 20 "$dir/log" >&2; exit 1; }
  {
    echo "HOST=127.0.0.1"
    echo "PORT=$port"
    echo "DATABASE=shop"
    echo "DATA=$dir/data"
    echo "CA_FILE=$dir/ca.pem"
    echo "SUPER=super"
    for role in SUPER READER BLIND NARROW WRITER; do echo "${role}_PASSWORD=$(new_secret)"; done
  } >"$dir/env"
  . "$dir/env"
  sed -e "s/:super/'$SUPER_PASSWORD'/" -e "s/:reader/'$READER_PASSWORD'/" -e "s/:blind/'$BLIND_PASSWORD'/" \
    -e "s/:narrow/'$NARROW_PASSWORD'/" -e "s/:writer/'$WRITER_PASSWORD'/" "$here/mariadb.seed.sql" |
    mariadb --no-defaults --protocol=tcp -h 127.0.0.1 -P "$port" -u root --default-character-set=utf8mb4 >/dev/null
}

# Unpacks the plugins of the full package into the folder of the server. They must have the version of the server. Debian's
# archives drop a version when a newer one appears, so an older server that is installed is upgraded first.
plugins() {
  local version
  version=$(server_version)
  if ! fetch_plugins "$version"; then
    install mariadb-server-core mariadb-client-core
    version=$(server_version)
    fetch_plugins "$version" || { tail -n 5 "$dir/download.log" >&2; exit 1; }
  fi
  dpkg-deb -x "$(plugin_folder "$version")"/*.deb "$dir/plugins"
}

server_version() {
  dpkg-query --showformat '${Version}' --show mariadb-server-core
}

plugin_folder() {
  echo "${AAM_PEERS_CACHE:-${CARGO_TARGET_DIR:-$here/../../target}/peers}/mariadb-$(tr -c 'a-zA-Z0-9.\n' _ <<<"$1")"
}

# fetch_plugins VERSION: downloads the full package of that version unless it was downloaded before. Fails if Debian no longer
# has it; the lists of packages are new then.
fetch_plugins() {
  local cache
  cache=$(plugin_folder "$1")
  mkdir -p "$cache"
  (
    flock 9
    cd "$cache"
    ls ./*.deb >/dev/null 2>&1 || apt-get download "mariadb-server=$1" ||
      { apt-get update && apt-get download "mariadb-server=$1"; }
  ) 9>"$cache.lock" >"$dir/download.log" 2>&1
}

# Waits until the server answers on its port. Fails if its process ends, and after 30 s.
wait_until_up() {
  local n=0
  while [ "$n" -lt 300 ]; do
    if mariadb --no-defaults --protocol=tcp -h 127.0.0.1 -P "$1" -u root -e 'SELECT 1' >/dev/null 2>&1; then return 0; fi
    kill -0 "$(cat "$dir/starter")" 2>/dev/null || return 1
    n=$((n + 1))
    sleep 0.1
  done
  return 1
}

stop() {
  local pid n=0
  if [ -f "$dir/pid" ]; then
    pid=$(cat "$dir/pid")
  elif [ -f "$dir/starter" ]; then
    # The server has not written its pid file. Its pid is that of the only child of the shell that started it.
    pid=$(pgrep -P "$(cat "$dir/starter")" || true)
  fi
  [ -n "${pid:-}" ] || return 0
  kill -9 "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null && [ "$n" -lt 100 ]; do
    n=$((n + 1))
    sleep 0.1
  done
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
