#!/usr/bin/env bash
# Chromium with playwright-core (Apache-2.0) and axe-core (MPL-2.0) for the tests of the pages.
#   browser.sh start DIR   installs what is missing, and writes DIR/env: BIN (Chromium), NODE, NODE_MODULES, SCRIPT
#   browser.sh stop DIR    does nothing, because each test starts and ends its own browser
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

case "${1:-} ${2:-}" in
  "start "?*)
    mkdir -p "$2"
    command -v chromium >/dev/null || install chromium
    modules=$(npm_modules browser-1 playwright-core@1.65.1 axe-core@4.14.1)
    printf '%s\n' "BIN=$(command -v chromium)" "NODE=$(command -v node)" "NODE_MODULES=$modules" \
      "SCRIPT=$here/browser_check.js" >"$2/env"
    ;;
  "stop "?*) ;;
  *)
    echo "usage: $0 start|stop DIR" >&2
    exit 64
    ;;
esac
