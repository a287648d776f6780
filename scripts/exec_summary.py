#!/usr/bin/env python3
"""Prints the exec summary of a running AAM: four lines, and what blocks the rest.

    python3 scripts/exec_summary.py [--port 5000] [--namespace autonomy] [--token-file FILE]

The numbers come from GET /metrics/funnel; the lines are made here, from the numbers alone, and are
the same to the character as those of `aam report`, because both say what one fold over the registry
found. Only the standard library is used.

The token: AAM_TOKEN (scope registry:read), else the admin token file beside the registry.

Exit code: 0 the SLO is met, 2 it is not, 1 an error.
"""

import argparse
import http.client
import json
import math
import os
import sys
import urllib.parse

HOST = "127.0.0.1"
# Blockers that are named before the rest is only counted.
NAMED = 10


class Problem(Exception):
    """What happened, and what to do next."""


def coverage(funnel):
    """active / eligible, 0 when nothing is eligible."""
    return funnel["active"] / funnel["eligible"] if funnel["eligible"] else 0.0


def met(funnel):
    """Whether the SLO is met."""
    return funnel["eligible"] > 0 and coverage(funnel) >= funnel["target"]


def lines(funnel):
    """The executive's lines, from the numbers."""
    n, target = funnel, f"{funnel['target']:.2f}"
    out = [
        f"Eligible: {n['eligible']} | Reachable: {n['reachable']} | Active: {n['active']}"
        f" → Coverage {n['active']}/{n['eligible']} (target ≥ {target})",
        f"Awaiting Creds: {n['awaiting_credentials']} | Network Blocked: {n['network_blocked']}"
        f" | Unsupported Type: {n['unsupported_type']} | Healing: {n['healing']} | Error: {n['error']}",
        f"Auto-created {n['auto_created']} connections; Safe-Mode only;"
        f" first-sync p95 latency {n['first_sync_p95_ms']} ms; no destructive ops.",
    ]
    # Cut, not rounded: 0.896 must not read as 0.90 and still miss it.
    cut = math.floor(coverage(n) * 100.0 + 1e-9) / 100.0
    if met(n):
        return out + [f"SLO: met ({cut:.2f} ≥ {target})"]
    if n["eligible"] == 0:
        out.append(f"SLO: not met (nothing is eligible yet, target ≥ {target})")
    else:
        out.append(f"SLO: not met ({cut:.2f} < {target})")
    return out + blockers(n)


def blockers(funnel):
    """What is under way, then each reason with its count and its fix."""
    out = []
    if funnel["pending"] > 0:
        out.append(f"Pending: {funnel['pending']} accepted, no attempt finished yet")
    if not funnel["blockers"]:
        return out
    out.append("Blockers:")
    for blocker in funnel["blockers"][:NAMED]:
        out.append(f"- {blocker['count']} x {blocker['name']}")
        if blocker["fix"]:
            out.append(f"  fix: {blocker['fix']}")
    if len(funnel["blockers"]) > NAMED:
        out.append(f"- and {len(funnel['blockers']) - NAMED} more kinds; see aam status")
    return out


def call(port, method, path, token=None, body=None, timeout=330.0):
    """One call to the AAM on this machine: (status, JSON value). No proxy, no redirect."""
    headers = {"accept": "application/json"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    if body is not None:
        headers["content-type"] = "application/json"
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    try:
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        text = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise Problem(
            f"no AAM answers on {HOST}:{port} ({error}); start one with make autonomy-mode, "
            "or name its port with --port or PORT"
        ) from None
    finally:
        connection.close()
    try:
        return answer.status, json.loads(text)
    except ValueError:
        raise Problem(
            f"what answers on {HOST}:{port} is no AAM: {path} is not JSON (status {answer.status})"
        ) from None


def read_token(path):
    """AAM_TOKEN, or what the first start of the daemon wrote beside its registry."""
    token = os.environ.get("AAM_TOKEN", "").strip()
    if token:
        return token
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except (OSError, UnicodeError) as error:
        raise Problem(
            f"no token: set AAM_TOKEN to one with the scope registry:read, or name the admin token "
            f"file with --token-file ({path}: {getattr(error, 'strerror', None) or error})"
        ) from None


def fetch(port, namespace, token):
    """The funnel as the daemon's database has it now."""
    query = urllib.parse.urlencode({"namespace": namespace})
    status, funnel = call(port, "GET", f"/metrics/funnel?{query}", token, timeout=30.0)
    if status != 200:
        words = funnel.get("detail") or funnel.get("title") if isinstance(funnel, dict) else None
        raise Problem(f"the AAM on port {port} refused: {status}: {words or 'no reason given'}")
    if not isinstance(funnel, dict) or funnel.get("data_source") != "database":
        raise Problem(f"what answers on port {port} does not say that its numbers come from the database")
    return funnel


def arguments():
    parser = argparse.ArgumentParser(description="Prints the exec summary of a running AAM.")
    parser.add_argument("--port", type=int, default=os.environ.get("PORT") or 5000, help="default: PORT, else 5000")
    parser.add_argument("--namespace", default="autonomy", help="default: autonomy")
    registry = os.environ.get("AAM_REGISTRY") or "var/aam.db"
    parser.add_argument(
        "--token-file", default=f"{registry}.admin-token", help="used when AAM_TOKEN is not set; default: %(default)s"
    )
    parser.add_argument(
        "--stdin", action="store_true", help="read funnels from stdin, one JSON object a line; print the lines of each as a JSON array"
    )
    return parser.parse_args()


def main():
    sys.stdout.reconfigure(encoding="utf-8")
    options = arguments()
    try:
        if options.stdin:
            sys.stdin.reconfigure(encoding="utf-8")
            for text in sys.stdin:
                print(json.dumps(lines(json.loads(text))))
            return 0
        funnel = fetch(options.port, options.namespace, read_token(options.token_file))
        print("\n".join(lines(funnel)))
        return 0 if met(funnel) else 2
    except Problem as problem:
        print(f"exec_summary: {problem}", file=sys.stderr)
    except (KeyError, TypeError, ValueError) as error:
        print(f"exec_summary: the funnel has not the form of this version of AAM: {error!r}", file=sys.stderr)
    except BrokenPipeError:
        # A reader that went away is no error of ours; nothing more can be printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


if __name__ == "__main__":
    sys.exit(main())
