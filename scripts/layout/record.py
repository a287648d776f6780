#!/usr/bin/env python3
"""Writes the list of functions that `aam lowcode` runs, for the layout of the released binary (see build.rs).

Runs the four commands of the Airbyte protocol on the manifest of the tests, against a server of its own, under
valgrind's callgrind, which names every function that was entered. Needs valgrind and a release build.
"""

import collections
import http.server
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
AAM = ROOT / "target/release/aam"
MANIFEST = ROOT / "tests/data/lowcode/shop.yaml"
LIST = ROOT / "scripts/layout/functions"
HASH = re.compile(r"^(_ZN.*)17h[0-9a-f]{16}E(\..*)?$")


class Shop(http.server.BaseHTTPRequestHandler):
    """Twelve customers on three pages, three orders each, five events."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urllib.parse.urlparse(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if url.path.endswith("/customers"):
            first = int(query.get("offset", 0))
            answer = {"data": [{"id": number, "name": f"n{number}"} for number in range(12)][first : first + 5]}
        elif url.path.endswith("/orders"):
            answer = {"data": [{"number": str(number), "state": "paid"} for number in range(3)], "next": ""}
        else:
            when = "2024-01-01T00:00:00Z"
            answer = {"data": [{"id": number, "created_at": when, "updated_at": when} for number in range(5)]}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def pattern(name):
    """The name without what another compiler or version changes; None for names of neither Rust nor the allocator."""
    if re.match(r"^_?mi_\w+(\.\w+)*$", name):
        return name
    if not re.match(r"^_[ZR][A-Za-z0-9_$.]*$", name):
        return None
    mangled = HASH.match(name)
    return f"{mangled[1]}17h*" if mangled else re.sub(r"Cs[0-9A-Za-z]+_", "Cs*_", name.split(".llvm.")[0]) + "*"


def entered(home, words):
    """The functions that one command enters."""
    out = home / "callgrind"
    tool = ["valgrind", "--tool=callgrind", "--demangle=no", f"--callgrind-out-file={out}"]
    done = subprocess.run([*tool, AAM, "lowcode", *words], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"aam lowcode {words[0]} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    names = re.findall(r"^c?fn=\(\d+\) (\S+)", out.read_text(errors="replace"), re.MULTILINE)
    return {re.sub(r"'\d+$", "", name) for name in names}


def densest_first(functions):
    """The patterns of `functions`. One that also fits much that is not entered stands at the end.

    The compiler merges equal functions: then one address has several names, and its section has any one of them.
    """
    table = subprocess.run(["nm", "-S", AAM], capture_output=True, text=True, check=True).stdout.splitlines()
    symbols = [words for words in map(str.split, table) if len(words) == 4 and words[2] in "tT"]
    addresses = {address for address, _, _, name in symbols if name in functions}
    run, all_of = collections.Counter(), collections.Counter()
    found = {shape for function in functions if (shape := pattern(function))}
    for address, size, _, name in symbols:
        shape = pattern(name)
        if shape:
            all_of[shape] += int(size, 16)
        if shape and address in addresses:
            run[shape] += int(size, 16)
            found.add(shape)
    return sorted(found, key=lambda shape: (-round(run[shape] / max(all_of[shape], 1), 1), shape))


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        home = pathlib.Path(folder)
        policy = home / "policy.yaml"
        policy.write_text(
            "version: 1\nallowlist: [openapi]\nnetwork: {allow_private: [127.0.0.0/8]}\n"
            "caps: {default: {per_second: 1000, burst: 1000, per_day: 100000, concurrency: 8}}\n"
        )
        config = home / "config.json"
        base = f"http://127.0.0.1:{server.server_port}/ok"
        start = "2024-01-01T00:00:00Z"
        config.write_text(json.dumps({"base_url": base, "api_key": "token", "start_date": start, "shop": "north"}))
        modes = {"sync_mode": "full_refresh", "destination_sync_mode": "append"}
        streams = [{"name": name, "json_schema": {}, "supported_sync_modes": ["full_refresh"]} for name in ("customers", "orders", "events")]
        catalog = home / "catalog.json"
        catalog.write_text(json.dumps({"streams": [{"stream": stream, **modes} for stream in streams]}))
        files = ["--manifest", MANIFEST, "--policy", policy]
        configured = [*files, "--config", config]
        found = entered(home, ["spec", *files])
        found |= entered(home, ["check", *configured])
        found |= entered(home, ["discover", *configured])
        found |= entered(home, ["read", *configured, "--catalog", catalog])
    names = densest_first(found)
    # What other builds entered: the optimizer joins other functions each time.
    names += sorted(set(LIST.read_text().splitlines()) - set(names)) if LIST.exists() else []
    LIST.write_text("".join(f"{name}\n" for name in names))
    print(f"{len(names)} functions in {LIST.relative_to(ROOT)}; build again to lay them out")


if __name__ == "__main__":
    main()
