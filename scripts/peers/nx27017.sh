#!/usr/bin/env bash
# NX-27017, a MongoDB server over SQLite that others wrote; it has no logins: nx27017.sh start DIR | stop DIR
#
# DIR/env: PORT. The database shop has the collections orders (30 documents) and lines, the database hr has people.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/nx27017.pid" nx-27017
}

start() {
  local venv port n=0
  mkdir -p "$dir"
  venv=$(venv nx-27017-0.8.1 'nx-27017==0.8.1' 'neosqlite==1.17.2' 'pymongo==4.20.1')
  installed
  port=$(free_port)
  setsid "$venv/bin/nx-27017" --data-dir memory -p "$port" --log-file "$dir/nx.log" --pid-file "$dir/nx.pid" >"$dir/out" 2>&1 </dev/null &
  echo $! >"$dir/nx27017.pid"
  until "$venv/bin/python" "$here/nx27017_seed.py" "$port" 2>>"$dir/out"; do
    n=$((n + 1))
    if [ "$n" -gt 20 ] || ! kill -0 "$(cat "$dir/nx27017.pid")" 2>/dev/null; then
      tail -n 20 "$dir/out" >&2
      stop
      return 1
    fi
    sleep 0.2
  done
  echo "PORT=$port" >"$dir/env"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
