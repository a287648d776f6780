#!/usr/bin/env bash
# Chromium for the tests of the dashboard.
#   chromium.sh start DIR   installs Chromium unless it exists, and writes its path to DIR/env as BIN
#   chromium.sh stop DIR    does nothing, because each test starts and ends its own browser
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
