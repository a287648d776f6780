#!/usr/bin/env bash
# Chromium for the tests of the consent pages.
#   chromium.sh start DIR   installs Chromium and ChromeDriver unless they exist, and writes their paths to DIR/env as BIN
#                           and DRIVER
#   chromium.sh stop DIR    does nothing, because each test starts and ends its own browser
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

case "${1:-} ${2:-}" in
  "start "?*)
    mkdir -p "$2"
    command -v chromium >/dev/null && command -v chromedriver >/dev/null || install chromium chromium-driver
    printf '%s\n' "BIN=$(command -v chromium)" "DRIVER=$(command -v chromedriver)" >"$2/env"
    ;;
  "stop "?*) ;;
  *)
    echo "usage: $0 start|stop DIR" >&2
    exit 64
    ;;
esac
