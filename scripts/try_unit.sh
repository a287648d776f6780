#!/usr/bin/env bash
# Boots a Debian with systemd in a container and tries docs/deploy/aam.service there: start, credential, reload, rotation of the
# log, watchdog, backup, restore and stop; and a connector of Airbyte as a process, without and with its drop-in.
#
#   scripts/try_unit.sh [BINARY]      default: target/debug/aam; needs root
#
# It takes about six minutes, most of them for the watchdog and, the first time, for the file system of the container. Exit code 0:
# all passed; 1: something failed; 77: containers cannot run here, so nothing was tried.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/peers/lib.sh"
binary=${1:-${CARGO_TARGET_DIR:-$here/../target}/debug/aam}
cache=${AAM_PEERS_CACHE:-${CARGO_TARGET_DIR:-$here/../target}/peers}

skip() {
  echo "try_unit: NOT TRIED: $1" >&2
  exit 77
}

[ "$(id -u)" = 0 ] || skip "systemd-nspawn needs root"
[ -x "$binary" ] || skip "$binary was not built"
command -v systemd-nspawn >/dev/null || install systemd-container || skip "systemd-nspawn cannot be installed"
unit_root=$cache/unit-root-python
if [ ! -e "$unit_root/.complete" ]; then
  command -v mmdebstrap >/dev/null || install mmdebstrap || skip "mmdebstrap cannot be installed"
  mkdir -p "$cache"
  rm -rf "${unit_root:?}"
  packages=ca-certificates,systemd,systemd-sysv,dbus,logrotate,python3
  mmdebstrap --quiet --variant=minbase --include="$packages" bookworm "$unit_root" ||
    skip "the file system of the container cannot be made"
  touch "$unit_root/.complete"
fi

root=$(mktemp -d "${TMPDIR:-/tmp}/aam-unit.XXXXXX")
trap 'rm -rf "$root"' EXIT
cp -a "$unit_root/." "$root/"
mkdir -p "$root/usr/local/bin" "$root/etc/aam/intents" "$root/etc/aam/policy" "$root/etc/aam/secrets" "$root/srv/data" "$root/srv/vendor"
cp "$binary" "$root/usr/local/bin/aam"
chroot "$root" useradd --system --home-dir /var/lib/aam aam
# With what the unit shows commented out.
sed -E 's/^#(LoadCredential=|Environment=|LogsDirectory=)/\1/' "$here/../docs/deploy/aam.service" >"$root/etc/systemd/system/aam.service"
cp "$here/../docs/deploy/aam.service.d/airbyte.conf" "$root/srv/airbyte.conf"
cp "$here/../docs/deploy/aam.logrotate" "$root/etc/logrotate.d/aam"
cp -r "$here/../tests/airbyte/connectors" "$root/opt/connectors"
# The vendor of the connector is a server of these files. Every page of items is the same, so AAM ends the reading.
printf '{}' >"$root/srv/vendor/me"
printf '{"items": {"type": "object", "properties": {"id": {"type": "integer"}}}}' >"$root/srv/vendor/schema"
printf '[{"id": 1}, {"id": 2}, {"id": 3}]' >"$root/srv/vendor/items"
cat >"$root/etc/aam/policy/policy.yaml" <<'POLICY'
version: 1
allowlist: [filesource, github, acme]
files: {roots: [/srv/data]}
network: {allow_private: [127.0.0.0/8]}
safe_mode: {max_items: 3}
airbyte:
  connectors:
    acme:
      run: [/usr/bin/python3.11, /opt/connectors/well_behaved.py]
      readable: [/opt/connectors]
      config: {url: "http://127.0.0.1:8000", token: none}
      hosts: ["http://127.0.0.1:8000"]
POLICY
printf 'id,name\n1,one\n' >"$root/srv/data/a.csv"
new_secret >"$root/etc/aam/secrets/GITHUB_TOKEN"
chmod 600 "$root/etc/aam/secrets/GITHUB_TOKEN"
common='"scopes_mode":"safe_readonly","namespace":"autonomy","risk_level":"low","evidence":{"status":"Sanctioned","source":"CMDB","ts":"2026-11-08T18:00:00Z"},"owner":{"user":"owner@acme.example","confidence":0.95,"why":"admin"}'
printf '{"source_type":"filesource","resource_ids":["/srv/data/a.csv"],%s}' "$common" >"$root/etc/aam/intents/a.json"
printf '{"source_type":"github","resource_ids":["acme"],"credential_locator":"env:GITHUB_TOKEN",%s}' "$common" >"$root/etc/aam/intents/b.json"
printf '{"source_type":"acme","resource_ids":["acme"],%s}' "$common" >"$root/etc/aam/intents/c.json"

cat >"$root/try.sh" <<'TRY'
#!/bin/bash
exec >/try.log 2>&1
export AAM_REGISTRY=/var/lib/aam/aam.db AAM_POLICY=/etc/aam/policy/policy.yaml AAM_INTENTS=/etc/aam/intents
check() { if eval "$2"; then echo "ok: $1"; else echo "FAILED: $1"; fi; }
as_aam() { setpriv --reuid aam --regid aam --clear-groups -- "$@"; }
# until NAME CONDITION: waits up to 150 s.
until_ok() { for _ in $(seq 150); do eval "$2" >/dev/null 2>&1 && break; sleep 1; done; check "$1" "$2" | tail -n 1; }
property() { systemctl show aam -p "$1" --value; }
check "the unit starts" "systemctl start aam"
until_ok "a connection becomes ACTIVE" "aam status | grep -q '^+ ACTIVE'"
until_ok "systemd hands over the credential" "aam status --family github | grep -q 'api.github.com was not found'"
pid=$(property MainPID)
check "no capability, no new privileges, a filter of system calls" \
  "grep -q 'CapEff:.0000000000000000' /proc/$pid/status && grep -q 'NoNewPrivs:.1' /proc/$pid/status && grep -q 'Seccomp:.2' /proc/$pid/status"
check "reload" "systemctl reload aam"
check "logrotate" "logrotate -f /etc/logrotate.d/aam"
until_ok "the log goes on in a new file" "grep -q 'reading the policy' /var/log/aam/aam.log && [ -s /var/log/aam/aam.log.1 ]"
check "backup" "as_aam aam backup /var/lib/aam/copy.db"
check "exposure" "systemd-analyze security --threshold=15 aam >/dev/null"
kill -STOP "$pid"
until_ok "the watchdog restarts a daemon that stands still" "[ \$(property NRestarts) = 1 ] && aam health"
check "stop" "systemctl stop aam && [ \$(property ExecMainStatus) = 0 ]"
check "restore" "as_aam aam restore /var/lib/aam/copy.db"
check "start after the restore" "systemctl start aam && as_aam aam verify"
until_ok "without the drop-in, the fix of a connector as a process names it" \
  "aam status --family acme | grep -q 'docs/deploy/aam.service.d/airbyte.conf'"
(cd /srv/vendor && exec python3 -m http.server 8000 --bind 127.0.0.1 >/vendor.log 2>&1) &
vendor=$!
install -D -m 0644 /srv/airbyte.conf /etc/systemd/system/aam.service.d/airbyte.conf
check "the unit starts with the drop-in" "systemctl daemon-reload && systemctl restart aam"
id=$(aam status --family acme | grep -oE '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}')
check "the connection is checked again" "as_aam aam heal $id"
until_ok "with the drop-in, a connector as a process becomes ACTIVE" "aam status --family acme | grep -q '^+ ACTIVE'"
aam status --format json "$id" >/acme.json
check "and is fully confined" "grep -q '\"check\": \"succeeded\"' /acme.json && ! grep -q not_confined /acme.json"
check "exposure with the drop-in" "systemd-analyze security --threshold=20 aam >/dev/null"
kill "$vendor"
journalctl -u aam --no-pager | tail -n 40
systemctl poweroff
TRY
chmod +x "$root/try.sh"
printf '[Service]\nExecStart=/try.sh\n' >"$root/etc/systemd/system/try.service"
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../try.service "$root/etc/systemd/system/multi-user.target.wants/try.service"
# The container's own filter of system calls leaves out what newer kernels have, which an ordinary machine allows.
calls="landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp"
timeout 500 systemd-nspawn --quiet -D "$root" --register=no --keep-unit --private-network --system-call-filter="$calls" --boot >"$root/boot.log" 2>&1 || true
[ -s "$root/try.log" ] || { tail -n 20 "$root/boot.log" >&2; skip "the container did not boot"; }
grep -E "^(ok|FAILED): " "$root/try.log"
if grep -q "^FAILED" "$root/try.log" || ! grep -q "^ok: exposure with the drop-in" "$root/try.log"; then
  cat "$root/try.log" >&2
  exit 1
fi
