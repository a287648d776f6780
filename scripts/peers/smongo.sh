#!/usr/bin/env bash
# smongo, a MongoDB server that others wrote, with users, roles and TLS: smongo.sh start DIR | stop DIR
#
# Its package is source code in Rust, which is built once (about two minutes) and kept in AAM_PEERS_CACHE.
#
# DIR/env: PORT, TLS_PORT (certificate for localhost), CA_FILE, PYTHON (with pymongo), and the passwords of the users in admin: READER_PASSWORD (role read on
# shop), WRITER_PASSWORD (readWrite on shop), BLIND_PASSWORD (read on hr).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/smongo.pid" smongo_server
}

# build VENV: builds the package into the environment unless it is there.
build() {
  (
    flock 9
    if [ ! -e "$1/.smongo" ]; then
      local work=$1/build
      rm -rf "$work"
      mkdir -p "$work"
      # Its build tool is installed as a wheel; only the package itself is source code.
      "$1/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary smongo --dest "$work" smongo==1.2.8
      tar -xzf "$work/smongo-1.2.8.tar.gz" -C "$work"
      (cd "$work/smongo-1.2.8" && CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$work/target "$1/bin/maturin" build --interpreter "$1/bin/python" --out "$work/wheels" >"$work/log" 2>&1) ||
        { tail -n 20 "$work/log" >&2; exit 1; }
      "$1/bin/pip" install --quiet --disable-pip-version-check --no-compile --no-deps "$work"/wheels/*.whl
      rm -rf "$work"
      touch "$1/.smongo"
    fi
  ) 9>"$1.smongo.lock"
}

start() {
  local venv name n=0
  mkdir -p "$dir"
  venv=$(venv smongo-1.2.8 'maturin==1.16.0' 'pymongo==4.20.1')
  build "$venv"
  installed
  certify "$dir"
  {
    echo "PORT=$(free_port)"
    echo "TLS_PORT=$(free_port)"
    echo "CA_FILE=$dir/ca.pem"
    echo "PYTHON=$venv/bin/python"
    for name in READER WRITER BLIND; do echo "${name}_PASSWORD=$(new_secret)"; done
  } >"$dir/env.new"
  # The passwords reach the server by its environment, so that no list of processes shows them.
  (
    set -a
    . "$dir/env.new"
    SETUP_PORT=$(free_port) CERTIFICATE=$dir/server.crt KEY=$dir/server.key exec setsid "$venv/bin/python" "$here/smongo_server.py" "$dir/data"
  ) >"$dir/smongo.log" 2>&1 </dev/null &
  echo $! >"$dir/smongo.pid"
  until grep -q '^ready' "$dir/smongo.log"; do
    n=$((n + 1))
    if [ "$n" -gt 300 ] || ! kill -0 "$(cat "$dir/smongo.pid")" 2>/dev/null; then
      tail -n 20 "$dir/smongo.log" >&2
      stop
      return 1
    fi
    sleep 0.1
  done
  mv "$dir/env.new" "$dir/env"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
