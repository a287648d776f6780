#!/usr/bin/env python3
"""Starts the daemon in the background, or reuses the one that runs, and shows what is in force.

    python3 scripts/autonomy_mode.py --aam target/release/aam

Policy and intents are checked first. Then: pid, Safe Mode, allowlist, caps, backoff and breaker as
they are in force, proof that the dashboard's data comes from the database, the exec summary.
Exit code: 0 the daemon runs under the policy shown, 1 or 78 it does not.
"""

import argparse
import contextlib
import os
import pathlib
import re
import subprocess
import sys
import time

import exec_summary
from exec_summary import Problem, call

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOG = "var/aam.log"
# Seconds until the daemon must be ready.
READY = 120.0


def running(port):
    """What the AAM on this port says of itself, or None."""
    with contextlib.suppress(Problem):
        status, answer = call(port, "GET", "/version", timeout=5.0)
        if status == 200 and isinstance(answer, dict) and answer.get("service") == "aam":
            return answer
    return None


def start(aam, port):
    """A daemon that outlives this script."""
    for folder in (os.environ.get("AAM_INTENTS") or "intents", "var"):
        (ROOT / folder).mkdir(parents=True, exist_ok=True)
    with open(ROOT / LOG, "ab") as log:
        process = subprocess.Popen([aam, "serve", "--port", str(port)], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    until = time.monotonic() + READY
    while time.monotonic() < until:
        if process.poll() is not None:
            last_lines = "\n".join((ROOT / LOG).read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
            raise Problem(f"the daemon ended with {process.returncode}; the last lines of {LOG}:\n{last_lines}")
        found = running(port)
        if found and found.get("pid") == process.pid:
            return found
        time.sleep(0.05)
    raise Problem(f"the daemon did not answer on port {port} within {READY:.0f} s; see {LOG} (pid {process.pid} still runs)")


def wait_until_ready(port):
    until = time.monotonic() + READY
    while True:
        status, answer = call(port, "GET", "/readyz", timeout=5.0)
        if status == 200:
            return
        if time.monotonic() > until:
            raise Problem(f"the daemon is not ready after {READY:.0f} s: {answer.get('detail')}")
        time.sleep(0.05)


def effective(aam):
    """The policy with every default filled in, and its short digest."""
    done = subprocess.run([aam, "check", "--effective"], cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        sys.stdout.write(done.stdout)
        sys.stderr.write(done.stderr)
        sys.exit(done.returncode)
    digest = re.search(r"Policy ([0-9a-f]{12})", done.stdout)
    return done.stdout, digest.group(1) if digest else ""


def show(aam, port):
    text, digest = effective(aam)
    found = running(port)
    if found:
        print(f"reusing the AAM on port {port}")
    else:
        found = start(aam, port)
    wait_until_ready(port)
    print(f"aam {found['version']} runs: http://127.0.0.1:{port}, pid {found['pid']}, registry {found['registry']}, log {LOG}")
    print(f"stop it with: kill {found['pid']}")
    print(text, end="")
    token = exec_summary.read_token(f"{found['registry']}.admin-token")
    status, dashboard = call(port, "GET", "/dashboard.json", token, timeout=30.0)
    if status != 200:
        raise Problem(f"/dashboard.json answers {status}: {dashboard.get('detail') or dashboard.get('title')}")
    if dashboard.get("data_source") != "database":
        raise Problem(f"/dashboard.json says data_source {dashboard.get('data_source')!r}, not \"database\"")
    print(f"/dashboard.json: data_source \"database\", namespace {dashboard['namespace']}, {dashboard['total']} connection{'' if dashboard['total'] == 1 else 's'}")
    policy = dashboard["policy"]
    if not digest or not policy["digest"].startswith(digest):
        raise Problem(f"the daemon runs under {policy['file']} ({policy['digest'][:12]}), not under what is shown above ({digest}); see its log, or restart it")
    print(f"policy in force: {policy['file']} ({digest}), the one shown above")
    print("\n".join(exec_summary.lines(dashboard["funnel"])))


def main():
    sys.stdout.reconfigure(encoding="utf-8", line_buffering=True)
    parser = argparse.ArgumentParser(description="Starts or reuses the daemon and shows what is in force.")
    parser.add_argument("--aam", default="target/release/aam", help="the binary; default: %(default)s")
    parser.add_argument("--port", type=int, default=os.environ.get("PORT") or 5000, help="default: PORT, else 5000")
    options = parser.parse_args()
    try:
        show(options.aam, options.port)
        return 0
    except Problem as problem:
        print(f"autonomy-mode: {problem}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
