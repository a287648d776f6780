#!/usr/bin/env bash
# Builds the image of the Dockerfile and tries it as docs/deploy.md runs it: another user, no capabilities, a root file system that
# cannot be written, the health check, a backup through a pipe, and a clean stop.
#
#   scripts/try_image.sh
#
#   ENGINE      podman or docker, with options; default: the one that is installed
#   IMAGE       an image that is built already; default: build one
#   BUILD_ARGS  options of the build, such as --build-arg RUNTIME=debian:bookworm-slim
#   RUN_ARGS    options of the container; default: a port on loopback
#   PORT        default: 5095
#
# Exit code 0: all passed; 1: something failed; 77: there is no engine, so nothing was tried.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
port=${PORT:-5095}
engine=${ENGINE:-$(command -v podman || command -v docker || true)}
if [ -z "$engine" ] || ! $engine info >/dev/null 2>&1; then
  echo "try_image: NOT TRIED: neither podman nor docker runs here" >&2
  exit 77
fi
name=aam-try-$$
image=${IMAGE:-}
if [ -z "$image" ]; then
  image=localhost/$name
  # shellcheck disable=SC2086
  $engine build ${BUILD_ARGS:-} -t "$image" "$here/.."
fi
dir=$(mktemp -d "${TMPDIR:-/tmp}/aam-image.XXXXXX")
chmod 755 "$dir"
cleanup() {
  $engine rm -f "$name" >/dev/null 2>&1 || true
  $engine volume rm "$name" >/dev/null 2>&1 || true
  rm -rf "$dir"
}
trap cleanup EXIT
mkdir -p "$dir/intents" "$dir/policy" "$dir/data"
printf 'id,name\n1,one\n' >"$dir/data/a.csv"
printf 'version: 1\nallowlist: [filesource]\nfiles: {roots: [/srv/data]}\n' >"$dir/policy/policy.yaml"
cat >"$dir/intents/a.json" <<'JSON'
{"source_type": "filesource", "resource_ids": ["/srv/data/a.csv"], "scopes_mode": "safe_readonly", "namespace": "autonomy",
 "risk_level": "low", "evidence": {"status": "Sanctioned", "source": "CMDB", "ts": "2026-11-08T18:00:00Z"},
 "owner": {"user": "owner@acme.example", "confidence": 0.95, "why": "admin"}}
JSON

failed=0
check() {
  if "${@:2}"; then echo "ok: $1"; else echo "FAILED: $1"; failed=1; fi
}
in_container() {
  # shellcheck disable=SC2086
  $engine exec "$name" "$@"
}
soon() {
  for _ in $(seq 60); do
    if "$@" >/dev/null 2>&1; then return 0; fi
    sleep 1
  done
  "$@"
}
active() { in_container aam status | grep -q '^+ ACTIVE'; }
# The server may not write anywhere but into its volume, not even as the owner of a file.
cannot_write() { ! in_container aam backup /copy.db 2>/dev/null && in_container aam backup /var/lib/aam/copy.db; }
user_is_a_number() { [ "$($engine inspect --format '{{.Config.User}}' "$name")" = 10001:10001 ]; }
piped() { in_container aam backup - >"$dir/copy.db" && [ "$(head -c 15 "$dir/copy.db")" = "SQLite format 3" ]; }
stopped() { $engine stop --time 20 "$name" >/dev/null && [ "$($engine inspect --format '{{.State.ExitCode}}' "$name")" = 0 ]; }

# shellcheck disable=SC2086
$engine run -d --name "$name" --read-only --cap-drop ALL --security-opt no-new-privileges ${RUN_ARGS:--p 127.0.0.1:$port:$port} \
  -e PORT="$port" -v "$dir/intents:/etc/aam/intents:ro" -v "$dir/policy:/etc/aam/policy:ro" -v "$dir/data:/srv/data:ro" \
  -v "$name:/var/lib/aam" "$image" >/dev/null
check "the health check passes" soon in_container aam health
check "the connection becomes ACTIVE" soon active
check "the user is a number" user_is_a_number
check "only the volume can be written" cannot_write
check "a backup goes through a pipe" piped
check "a stop is clean" stopped
[ "$failed" = 0 ] || $engine logs "$name" >&2 || true
exit "$failed"
