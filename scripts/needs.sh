#!/usr/bin/env bash
# Installs the tools that are missing.
#
#   scripts/needs.sh build        a C compiler, for the bundled SQLite
#   scripts/needs.sh build peers  also the tools of scripts/peers/, which install the servers themselves
set -euo pipefail

missing=()
has() { command -v "$1" >/dev/null 2>&1; }
need() { has "$1" || missing+=("${@:2}"); }

for what in "$@"; do
  case $what in
    build)
      need cc gcc libc6-dev
      need python3 python3
      ;;
    peers)
      need openssl openssl
      need pgrep procps
      python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
      ;;
    *)
      echo "usage: $0 [build] [peers]" >&2
      exit 64
      ;;
  esac
done

if ! has cargo; then
  echo "needs: cargo was not found; install Rust with rustup, then open a new shell" >&2
  exit 69
fi
[ "${#missing[@]}" -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then as_root=(sudo); fi
if ! has apt-get || { [ "${#as_root[@]}" -gt 0 ] && ! has sudo; }; then
  echo "needs: not installed: ${missing[*]}; install them with the package manager of this system" >&2
  exit 69
fi
echo "needs: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
