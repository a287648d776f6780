#!/usr/bin/env python3
"""Prints the exec summary of a running AAM: four lines, and the blockers below the target.

    python3 scripts/exec_summary.py [--port 5000] [--namespace autonomy] [--token-file FILE]

The lines are the field `summary` of GET /metrics/funnel, so they are the same as those of `aam report`.
Only the standard library is used.

The token: AAM_TOKEN (scope registry:read), or else the admin token file next to the registry. It is sent only to the AAM
that holds this registry (--registry, AAM_REGISTRY or var/aam.db), not to any program that listens on the port.

Exit code: 0 if the SLO is met, 2 if it is not, 1 after an error.
"""

import argparse
import hashlib
import hmac
import http.client
import json
import os
import secrets
import stat
import sys
import urllib.parse

HOST = "127.0.0.1"
# AAM keeps its responses far below.
MAX_ANSWER_BYTES = 64 << 20
# The end of the name of the file with the admin token; the rest is the name of the registry.
ADMIN_TOKEN = ".admin-token"


class Problem(Exception):
    """An error message: what happened, and what to do next."""


def lines(funnel):
    """Returns the lines of the exec summary from the funnel."""
    summary = funnel["summary"]
    if not isinstance(summary, list) or not all(isinstance(line, str) for line in summary):
        raise TypeError("summary is not a list of lines")
    return summary


def met(funnel):
    """Returns whether the SLO is met."""
    if not isinstance(funnel["slo_met"], bool):
        raise TypeError("slo_met is not true or false")
    return funnel["slo_met"]


def listener_key(registry):
    """Returns the key with which the daemon that holds the registry proves its identity. Only its user can read the file."""
    path = f"{registry}.listener-key"
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), encoding="ascii") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077 or os.geteuid() not in (0, found.st_uid):
                raise Problem(f"no token was sent: {path} is not a file that only you can read and write")
            return bytes.fromhex(file.read(4096).strip())
    except (OSError, ValueError) as error:
        raise Problem(
            f"no token was sent: the program on {HOST} must prove that it is the AAM of the registry {registry}, and {path} "
            f"cannot be read: {getattr(error, 'strerror', None) or error}; pass the registry of the running daemon with "
            "--registry or AAM_REGISTRY, and run this script as the user of the daemon"
        ) from None


def prove(connection, port, registry):
    """Checks that the program at the other end of the connection holds the registry. The server computes the same HMAC."""
    key, challenge = listener_key(registry), secrets.token_hex(32)
    connection.request("GET", "/version", headers={"accept": "application/json", "aam-challenge": challenge})
    response = connection.getresponse()
    response.read(MAX_ANSWER_BYTES)
    message = f"aam listener\n{challenge}\n{HOST}:{port}"
    expected = hmac.new(key, message.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), response.headers.get("aam-proof", "").encode()):
        raise Problem(
            f"no token was sent: the program on {HOST}:{port} did not prove that it is the AAM of the registry {registry}; "
            "pass the port of that AAM with --port or PORT, or its registry with --registry or AAM_REGISTRY"
        )


def call(port, method, path, token=None, body=None, timeout=330.0, proven_for=None):
    """Sends a request to the AAM on this machine, without a proxy or redirects. Returns (status, JSON value).

    With `proven_for`, the path of a registry, the program must prove that it is the AAM of that registry, and the request is
    sent on the connection on which this was proven. A token is never sent without such a proof.
    """
    headers = {"accept": "application/json"}
    if body is not None:
        headers["content-type"] = "application/json"
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    try:
        connection.connect()
        # If the connection is closed, another program may get the next one.
        connection.auto_open = 0
        if proven_for is not None:
            prove(connection, port, proven_for)
        elif token:
            raise ValueError("a token is sent only with proven_for")
        if token:
            headers["authorization"] = f"Bearer {token}"
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        text = response.read(MAX_ANSWER_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise Problem(
            f"no AAM answers on {HOST}:{port} ({error}); start one with make autonomy-mode, "
            "or pass its port with --port or PORT"
        ) from None
    finally:
        connection.close()
    try:
        return response.status, json.loads(text)
    except ValueError:
        raise Problem(
            f"the program on {HOST}:{port} is not an AAM: {path} is not valid JSON (status {response.status})"
        ) from None


def read_token(path):
    """Returns AAM_TOKEN, or the admin token that the daemon wrote next to its registry at its first start."""
    token = os.environ.get("AAM_TOKEN", "").strip()
    if token:
        return token
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except (OSError, UnicodeError) as error:
        raise Problem(
            f"no token: AAM_TOKEN is not set and {path} cannot be read: {getattr(error, 'strerror', None) or error}; "
            "AAM writes this file only while the policy lists no token; set AAM_TOKEN to a token with the scope "
            "registry:read (aam token new creates one), or pass the admin token file with --token-file"
        ) from None


def fetch(port, namespace, token, registry):
    """Returns the current funnel."""
    # The summary is printed whether or not the SLO is met, also where the policy sets api.enforce_slo.
    query = urllib.parse.urlencode({"namespace": namespace, "enforce": "none"})
    status, funnel = call(port, "GET", f"/metrics/funnel?{query}", token, timeout=30.0, proven_for=registry)
    if status != 200:
        reason = funnel.get("detail") or funnel.get("title") if isinstance(funnel, dict) else None
        raise Problem(f"the AAM on port {port} refused with {status}: {reason or 'it gives no reason'}")
    if not isinstance(funnel, dict) or funnel.get("data_source") != "database":
        raise Problem(f"the program on port {port} does not report numbers that come from the database")
    return funnel


def arguments():
    parser = argparse.ArgumentParser(description="Prints the exec summary of a running AAM.")
    parser.add_argument("--port", type=int, default=os.environ.get("PORT") or 5000, help="default: PORT, else 5000")
    parser.add_argument("--namespace", default="autonomy", help="default: autonomy")
    registry = os.environ.get("AAM_REGISTRY") or "var/aam.db"
    parser.add_argument("--registry", help=f"the registry of the daemon; default: {registry}, or what --token-file belongs to")
    parser.add_argument("--token-file", help="used when AAM_TOKEN is not set; default: the registry with .admin-token")
    options = parser.parse_args()
    if options.registry is None:
        named = options.token_file or ""
        options.registry = named.removesuffix(ADMIN_TOKEN) if named.endswith(ADMIN_TOKEN) else registry
    if options.token_file is None:
        options.token_file = options.registry + ADMIN_TOKEN
    return options


def main():
    sys.stdout.reconfigure(encoding="utf-8")
    options = arguments()
    try:
        funnel = fetch(options.port, options.namespace, read_token(options.token_file), options.registry)
        print("\n".join(lines(funnel)))
        return 0 if met(funnel) else 2
    except Problem as problem:
        print(f"exec_summary: {problem}", file=sys.stderr)
    except (KeyError, TypeError, ValueError) as error:
        print(f"exec_summary: the response of /metrics/funnel is not valid: {error!r}; is this the script of another version of AAM?", file=sys.stderr)
    except BrokenPipeError:
        # The reader closed the pipe, so nothing more can be printed; that is not an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


if __name__ == "__main__":
    sys.exit(main())
