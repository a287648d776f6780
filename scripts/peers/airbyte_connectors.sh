#!/usr/bin/env bash
# Airbyte's own connectors from the package registry: airbyte_connectors.sh start DIR | stop DIR
#
# They are commands, not servers: start installs them, each into an environment of its own. For those that read a vendor of the
# sandbox of this project, it also starts the sandbox.
# AIRBYTE_CONNECTORS names those that are installed (default: all), for example "faker okta".
# DIR/env: PYTHON_VERSION, and FAKER, FILE, S3, GITHUB, GITLAB, OKTA (the command `source-NAME` of each environment); SANDBOX (the
# sandbox as an HTTP proxy) and CA (the file with its authority); with FILE also FILES (the address of a server of files with TLS)
# and FILES_CA.
set -euo pipefail
# A failed installation inside of $(…) ends the script too.
shopt -s inherit_errexit
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

# find_python: prints a Python that all of these packages accept. Some refuse 3.12 and later.
find_python() {
  local python
  for python in python3.11 python3.10 python3; do
    if "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 12))' 2>/dev/null; then
      command -v "$python"
      return
    fi
  done
  echo "airbyte_connectors needs Python 3.11 with venv: apt-get install python3.11-venv, or pyenv install 3.11" >&2
  return 1
}

# connector NAME VERSION REQUIREMENT...: creates the environment of airbyte-source-NAME unless it exists; prints its command.
# Each REQUIREMENT replaces the package's own one for the same project, or pins a project that the package leaves open.
connector() {
  local cache=${AAM_PEERS_CACHE:-${CARGO_TARGET_DIR:-$here/../../target}/peers} name=$1 package=airbyte-source-$1 version=$2
  shift 2
  mkdir -p "$cache"
  cache=$(cd "$cache" && pwd)
  # Other peers install some of these packages too, with other requirements.
  local folder=$cache/process-$package-$version
  (
    # Two runs at once would break each other's installation.
    flock 9
    if [ ! -e "$folder/.complete" ]; then
      rm -rf "${folder:?}"
      "$python" -m venv "$folder"
      pip=("$folder/bin/pip" install --quiet --disable-pip-version-check)
      "${pip[@]}" --no-deps "$package==$version"
      "$folder/bin/python" - "$package" "$@" >"$folder/requirements.txt" <<'EOF'
import importlib.metadata, re, sys

def project(requirement):
    return re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower().replace("_", "-")

package, *replacements = sys.argv[1:]
replaced = {project(requirement) for requirement in replacements}
print(*replacements, sep="\n")
for requirement in importlib.metadata.requires(package) or []:
    if project(requirement) not in replaced:
        print(requirement)
EOF
      "${pip[@]}" --requirement "$folder/requirements.txt"
      touch "$folder/.complete"
    fi
  ) 9>"$folder.lock" >&2
  echo "$folder/bin/source-$name"
}

# add NAME VERSION REQUIREMENT...: installs a connector that was asked for and adds its command to DIR/env.
add() {
  local path
  case " ${AIRBYTE_CONNECTORS:-faker file s3 github gitlab okta} " in *" $1 "*) ;; *) return 0 ;; esac
  path=$(connector "$@")
  echo "${1^^}=$path" >>"$dir/env.new"
}

# vendors: starts the sandbox with the vendors of the installed connectors.
vendors() {
  local vendors
  vendors=$(sed -n 's/^\(GITHUB\|GITLAB\|OKTA\)=.*/\L\1/p' "$dir/env.new" | paste -s -d ,)
  [ -n "$vendors" ] || return 0
  sandbox "$dir" "$vendors" || { stop; return 1; }
  {
    echo "SANDBOX=http://$(sandbox_address "$dir" proxy)"
    echo "CA=$dir/state/ca.pem"
  } >>"$dir/env.new"
}

# files: starts a server with TLS for the connector of files, which reads nothing else from the web.
files() {
  local n=0
  grep -q '^FILE=' "$dir/env.new" || return 0
  mkdir -p "$dir/files"
  certify "$dir"
  setsid python3 "$here/https_files.py" "$dir/files" "$dir/server.crt" "$dir/server.key" "$dir/files.port" \
    >"$dir/files.log" 2>&1 </dev/null &
  echo $! >"$dir/files.pid"
  while [ ! -s "$dir/files.port" ]; do
    n=$((n + 1))
    if [ "$n" -gt 300 ] || ! kill -0 "$(cat "$dir/files.pid")" 2>/dev/null; then
      tail -n 20 "$dir/files.log" >&2
      return 1
    fi
    sleep 0.1
  done
  {
    echo "FILES=https://localhost:$(cat "$dir/files.port")"
    echo "FILES_CA=$dir/ca.pem"
  } >>"$dir/env.new"
}

start() {
  local python
  mkdir -p "$dir"
  python=$(find_python)
  echo "PYTHON_VERSION=$("$python" -c 'import platform; print(platform.python_version())')" >"$dir/env.new"
  add faker 7.2.1 airbyte-cdk==6.61.6
  # These two ask for a version of smart-open that was never published: their own version.
  add file 0.6.0 airbyte-cdk==7.39.1 'smart-open[all]==6.0.0'
  add s3 4.16.1 'airbyte-cdk[file-based]==7.39.1' 'smart-open[s3]==5.1.0'
  add github 2.7.1 airbyte-cdk==7.39.1
  add gitlab 4.3.7
  add okta 0.3.26 airbyte-cdk==7.39.1
  installed
  vendors
  files || { stop; return 1; }
  mv "$dir/env.new" "$dir/env"
}

stop() {
  end "$dir/files.pid" https_files.py
  end "$dir/sandbox.pid" aam-sandbox
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
