#!/usr/bin/env python3
"""Starts the daemon in the background, or reuses a running one, and shows the policy in force.

    python3 scripts/autonomy_mode.py --aam target/release/aam

It checks policy and intents first. Then it prints the pid and the policy in force (Safe Mode, allowlist, caps, backoff,
circuit breaker), verifies that the data of the dashboard comes from the database, and prints the exec summary.
Exit code: 0 if the daemon runs under the policy shown, 1 or 78 if not.
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
# The daemon must be ready within this number of seconds.
READY = 120.0


def running(port):
    """The version document of the AAM on this port, or None."""
    with contextlib.suppress(Problem):
        status, answer = call(port, "GET", "/version", timeout=5.0)
        if status == 200 and isinstance(answer, dict) and answer.get("service") == "aam":
            return answer
    return None


def start(aam, port):
    """Starts a daemon that outlives this script."""
    (ROOT / (os.environ.get("AAM_INTENTS") or "intents")).mkdir(parents=True, exist_ok=True)
    (ROOT / LOG).parent.mkdir(mode=0o700, exist_ok=True)
    # The log names systems and owners, so only the user may read it.
    with open(os.open(ROOT / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as log:
        process = subprocess.Popen([aam, "serve", "--port", str(port)], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    until = time.monotonic() + READY
    while time.monotonic() < until:
        if process.poll() is not None:
            tail = "\n".join((ROOT / LOG).read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
            raise Problem(f"the daemon exited with {process.returncode}; the end of {LOG}:\n{tail}")
        found = running(port)
        if found and found.get("pid") == process.pid:
            return found
        time.sleep(0.05)
    raise Problem(f"the daemon did not answer on port {port} within {READY:.0f} s; see {LOG} (process {process.pid} still runs)")


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
    # The registry of this project, and not the one that the program on the port reports.
    registry = ROOT / (os.environ.get("AAM_REGISTRY") or "var/aam.db")
    found = running(port)
    if found:
        # Any program can claim to be an AAM.
        call(port, "GET", "/version", proven_for=registry, timeout=5.0)
        print(f"reusing the AAM on port {port}")
    else:
        found = start(aam, port)
    wait_until_ready(port)
    print(f"aam {found['version']} runs: http://127.0.0.1:{port}, pid {found['pid']}, registry {found['registry']}, log {LOG}")
    print(f"stop it with: kill {found['pid']}")
    print(text, end="")
    token = exec_summary.read_token(f"{registry}{exec_summary.ADMIN_TOKEN}")
    status, dashboard = call(port, "GET", "/dashboard.json", token, timeout=30.0, proven_for=registry)
    if status != 200:
        raise Problem(f"/dashboard.json returned {status}: {dashboard.get('detail') or dashboard.get('title')}")
    if dashboard.get("data_source") != "database":
        raise Problem(f"/dashboard.json has data_source {dashboard.get('data_source')!r}, not \"database\"")
    print(f"/dashboard.json: data_source \"database\", namespace {dashboard['namespace']}, {dashboard['total']} {'connection' if dashboard['total'] == 1 else 'connections'}")
    policy = dashboard["policy"]
    if not digest or not policy["digest"].startswith(digest):
        raise Problem(f"the daemon runs under {policy['file']} ({policy['digest'][:12]}), not under the policy shown above ({digest}); see its log, or restart it")
    print(f"policy in force: {policy['file']} ({digest}), as shown above")
    print("\n".join(exec_summary.lines(dashboard["funnel"])))


def main():
    sys.stdout.reconfigure(encoding="utf-8", line_buffering=True)
    parser = argparse.ArgumentParser(description="Starts or reuses the daemon and shows the policy in force.")
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
