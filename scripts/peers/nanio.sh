#!/usr/bin/env bash
# nanio: a second S3 server that verifies signatures, with an implementation that is independent of moto and botocore.
#   nanio.sh start DIR | stop DIR
#
# DIR/env: ENDPOINT KEY_ID SECRET DATA (the folder with the buckets).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}
VERSION=0.1.7

stop() {
  end "$dir/nanio.pid" nanio
}

# Buckets are folders and objects are files.
seed() {
  mkdir -p "$1/landing/orders" "$1/landing/events/a b" "$1/empty"
  for number in $(seq 1 25); do
    echo "$number" >"$1/landing/orders/part-$number.csv"
  done
  echo one >"$1/landing/events/a b/ü+&.txt"
  echo top >"$1/landing/README.txt"
}

answers() {
  python3 - "$1" <<'PY'
import sys, time, urllib.error, urllib.request
deadline = time.monotonic() + 30
while True:
    try:
        urllib.request.urlopen(sys.argv[1], timeout=2)
        sys.exit("nanio serves without a signature")
    except urllib.error.HTTPError as error:
        sys.exit(0 if error.code == 403 else f"nanio answers {error.code} without a signature")
    except OSError as error:
        if time.monotonic() > deadline:
            sys.exit(f"nanio does not answer: {error}")
        time.sleep(0.05)
PY
}

start() {
  local venv port key secret
  mkdir -p "$dir"
  venv=$(venv "nanio-$VERSION" "nanio==$VERSION")
  installed
  seed "$dir/data"
  port=$(free_port)
  key=$(new_secret)
  secret=$(new_secret)
  NANIO_ACCESS_KEY=$key NANIO_SECRET_KEY=$secret setsid "$venv/bin/python" -m nanio serve --host 127.0.0.1 --port "$port" \
    --data-dir "$dir/data" --no-access-log >"$dir/nanio.log" 2>&1 </dev/null &
  echo $! >"$dir/nanio.pid"
  if ! answers "http://127.0.0.1:$port/landing"; then
    tail -n 20 "$dir/nanio.log" >&2
    stop
    return 1
  fi
  printf '%s\n' "ENDPOINT=http://127.0.0.1:$port" "KEY_ID=$key" "SECRET=$secret" "DATA=$dir/data" >"$dir/env"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
