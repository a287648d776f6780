#!/usr/bin/env bash
# Chromium for the test of the dashboard.
#   chromium.sh start DIR   installs it where it is not there yet, writes DIR/env with BIN, its path
#   chromium.sh stop DIR    nothing runs between tests
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

case "${1:-} ${2:-}" in
  "start "?*)
    mkdir -p "$2"
    command -v chromium >/dev/null || install chromium
    printf 'BIN=%s\n' "$(command -v chromium)" >"$2/env"
    ;;
  "stop "?*) ;;
  *)
    echo "usage: $0 start|stop DIR" >&2
    exit 64
    ;;
esac
