#!/usr/bin/env python3
"""Starts the vendor sandbox and a daemon, and onboards one connection of each family while you watch.

    python3 scripts/sandbox.py [--aam target/debug/aam] [--sandbox target/debug/aam-sandbox] [--port 5091] [--once]

The vendors are those of sandbox/*.yaml, on loopback; nothing outside this machine is called. The intents are
seeds/families/*.json, whose connections become ACTIVE, and seeds/families/broken/*.json, which show what each bad state
looks like and how to leave it. Everything is written to var/sandbox and made anew at each start. Ctrl-C ends both programs.

Exit code: 0 if every connection reached the state that it should show, 1 if not. With --once it ends by itself.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

import smoke_90
from exec_summary import Problem, call
from smoke_90 import ROOT, Daemon, free_port

PORT, FOLDER = 5091, "var/sandbox"
SEEDS = ROOT / "seeds" / "families"
VENDORS = ROOT / "sandbox"
# The sandbox must be ready, and all connections must be settled, within these numbers of seconds.
READY, SETTLED = 30.0, 120.0
# The pause between two intents, so that the page shows one after the other.
PAUSE = 0.4
# How slow the vendors are.
LATENCY = "80..400ms"
# What each file in seeds/families/broken/ shows: the state, and the commands that leave it.
BROKEN = {
    "1_awaiting_credentials.json": ("AWAITING_CREDENTIALS", "cp {folder}/secrets/SANDBOX_GITHUB {folder}/secrets/SANDBOX_GITHUB_WRONG && {heal}"),
    "2_network_blocked.json": ("NETWORK_BLOCKED", "sed -i s/hanging-acme/many-acme/ {folder}/intents/broken_2_network_blocked.json"),
    "3_error.json": ("ERROR", "sed -i s/nobody-here/slow-acme/ {folder}/intents/broken_3_error.json"),
    "4_unsupported.json": ("UNSUPPORTED", "mv {folder}/intents/broken_4_unsupported.json {folder}/; its connection is then RETIRED"),
    "5_rejected.json": ("REJECTED", "sed -i 's/: 0.4,/: 0.9,/' {folder}/intents/broken_5_rejected.json"),
}


# Short enough that the broken connections show their state soon.
POLICY = {"eligibility": {"min_confidence": 0.5}, "safe_mode": {"max_items": 20, "step_timeout": "8s", "attempt_timeout": "40s"}}


class Sandbox:
    """The process that plays the vendors. It ends when its standard input is closed."""

    def __init__(self, binary, folder, arguments=(f"--latency={LATENCY}",)):
        self.binary, self.state, self.arguments = binary, ROOT / folder / "vendors", arguments

    def __enter__(self):
        self.state.mkdir(mode=0o700, parents=True)
        command = [self.binary, "--vendors", str(VENDORS), "--proxy", "127.0.0.1:0", "--state", str(self.state), "--until-stdin-closes", *self.arguments]
        # Ctrl-C is meant for this script, which ends the daemon first.
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, start_new_session=True)
        until = time.monotonic() + READY
        while not (self.state / "addresses.json").exists():
            if self.process.poll() is not None:
                raise Problem(f"the sandbox exited with {self.process.returncode}; its message is above")
            if time.monotonic() > until:
                self.__exit__()
                raise Problem(f"the sandbox was not ready after {READY:.0f} s")
            time.sleep(0.05)
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def read(self, name):
        return json.loads((self.state / name).read_text(encoding="utf-8"))


class SandboxDaemon(Daemon):
    """A daemon whose policy sends all calls to the sandbox."""

    def __init__(self, aam, folder, port):
        super().__init__(aam, folder, port)
        self.common = ["--registry", self.registry, "--intents", f"{folder}/intents", "--policy", f"{folder}/policy.yaml"]


def known_servers():
    """The variables of the servers that are started for this run: databases and object stores are real, not played."""
    return {name: value for name, value in os.environ.items() if name.startswith("AAM_TEST_")}


def lacks_server(value):
    """Whether a text of the value names a server that was not started."""
    names = re.findall(r"\{(AAM_TEST_\w+)\}", json.dumps(value))
    return any(name not in known_servers() for name in names)


def filled(value, credentials):
    """Replaces {FAMILY.NAME.FIELD} in texts by what the sandbox wrote about the credential, for example the key of a client, and
    {AAM_TEST_...} by what is known about a server."""
    if isinstance(value, str):
        for name, known in known_servers().items():
            value = value.replace("{" + name + "}", known)
        return re.sub(r"\{(\w+)\.([^{}]+)\.(\w+)\}", lambda place: str(credentials[place[1]][place[2]][place[3]]), value)
    if isinstance(value, dict):
        return {name: filled(inner, credentials) for name, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, credentials) for inner in value]
    return value


def documents(port):
    """The intents to push, as (name of the file, document, state to reach), and the families whose server was not started."""
    found, left_out = [], []
    for path in sorted(SEEDS.glob("*.json")) + sorted((SEEDS / "broken").glob("*.json")):
        if path.name == "settings.json":
            continue
        document = json.loads(path.read_text(encoding="utf-8"))
        broken = path.parent.name == "broken"
        if lacks_server(document):
            left_out.append(document["source_type"])
            continue
        document["resource_ids"] = [one.replace("{port}", str(port)) for one in filled(document["resource_ids"], {})]
        state = BROKEN[path.name][0] if broken else "ACTIVE"
        found.append((f"broken_{path.name}" if broken else path.name, document, state))
    return found, left_out


def calls(sandbox):
    """Every call that the vendors have answered."""
    proxy = urllib.request.ProxyHandler({"http": "http://" + sandbox.read("addresses.json")["proxy"]})
    with urllib.request.build_opener(proxy).open("http://sandbox.invalid/calls", timeout=60) as answer:
        return json.load(answer)


def settings(sandbox):
    """The secrets and the keys of the policy that the seeds need, with what the sandbox wrote about its credentials."""
    known = json.loads((SEEDS / "settings.json").read_text(encoding="utf-8"))
    for part in (known["secrets"], known["policy"]["families"]):
        for name in [name for name, value in part.items() if lacks_server(value)]:
            del part[name]
    return filled(known, sandbox.read("credentials.json"))


def write(folder, sandbox, known, more):
    """Writes the policy, with the keys of `more`, and the secrets."""
    secrets = ROOT / folder / "secrets"
    secrets.mkdir(mode=0o700)
    for name, value in known["secrets"].items():
        text = value if isinstance(value, str) else json.dumps(value)
        with open(os.open(secrets / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    policy = {
        "version": 1,
        "network": {
            "proxy": "http://" + sandbox.read("addresses.json")["proxy"],
            "ca_file": str(sandbox.state / "ca.pem"),
            "allow_private": ["127.0.0.0/8"],
        },
        "credentials": {"secrets_dir": f"{folder}/secrets", "principals": known["principals"]},
        **more,
    }
    # JSON is YAML too.
    (ROOT / folder / "policy.yaml").write_text(json.dumps(policy, indent=2) + "\n", encoding="utf-8")


class Watcher:
    """Prints each connection when it reaches another state."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.token = (ROOT / f"{daemon.registry}.admin-token").read_text(encoding="ascii").strip()
        self.shown = {}

    def look(self):
        """Returns the state of each connection by family and first resource id."""
        registry = ROOT / self.daemon.registry
        _, page = call(self.daemon.port, "GET", "/connections?namespace=autonomy&limit=200", self.token, timeout=30.0, proven_for=registry)
        states = {}
        for one in page["connections"]:
            key = (one["source_type"], one["resource_ids"][0])
            states[key] = one["status"]
            if one["status"] != "PENDING" and self.shown.get(key) != one["status"]:
                self.shown[key] = one["status"]
                print(f"{one['status']:<20} {key[0]:<16} {key[1]}  ({one['message']})", flush=True)
                if one["error"]:
                    print(f"{'':<20} fix: {one['error']['fix']}", flush=True)
        return states


def onboard(daemon, watcher, wanted):
    """Copies the intents into the folder one after the other. Returns whether all reached the state that they should show."""
    folder = ROOT / daemon.folder / "intents"
    expected = {}
    for name, document, state in wanted:
        expected[(document["source_type"], document["resource_ids"][0])] = state
        draft = folder / f".{name}.draft"
        draft.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        draft.rename(folder / name)
        time.sleep(PAUSE)
        watcher.look()
    until = time.monotonic() + SETTLED
    while time.monotonic() < until:
        states = watcher.look()
        missing = {key: state for key, state in expected.items() if states.get(key) != state}
        if not missing:
            return True
        time.sleep(0.5)
    for key, state in missing.items():
        print(f"sandbox: {key[0]} {key[1]} is {states.get(key)}, and should be {state}", file=sys.stderr)
    return False


def show(daemon, left_out):
    heal = f"{daemon.aam} heal --port {daemon.port} --registry {daemon.registry}"
    print(f"\nThe page: http://127.0.0.1:{daemon.port}/  (any name; the password is in {daemon.registry}.admin-token)")
    if left_out:
        print(f"Left out, because their servers were not started (make sandbox does it): {', '.join(sorted(set(left_out)))}")
    print("\nTry, in another terminal:")
    for name, (state, command) in BROKEN.items():
        print(f"  {state:<20} {command.format(folder=daemon.folder, heal=heal)}")
    print(f"  the same as text     {daemon.aam} status --registry {daemon.registry} --policy {daemon.folder}/policy.yaml --intents {daemon.folder}/intents")
    print(f"  a system of yours    copy an intent into {daemon.folder}/intents")
    print("\nCtrl-C ends the daemon and the sandbox.", flush=True)


def main():
    sys.stdout.reconfigure(encoding="utf-8")
    parser = argparse.ArgumentParser(description="Starts the vendor sandbox and a daemon, and onboards one connection of each family.")
    parser.add_argument("--aam", default="target/debug/aam", help="the binary; default: %(default)s")
    parser.add_argument("--sandbox", default="target/debug/aam-sandbox", help="the binary of the sandbox; default: %(default)s")
    parser.add_argument("--port", type=int, default=PORT, help="default: %(default)s; 0: any free port")
    parser.add_argument("--dir", default=FOLDER, help="folder of the run below the repository; default: %(default)s")
    parser.add_argument("--once", action="store_true", help="end when all connections are settled")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    port = options.port or free_port()
    if smoke_90.taken_by(port):
        print(f"sandbox: port {port} is taken by {smoke_90.taken_by(port)}; stop it, or choose another port: SANDBOX_PORT=N make sandbox", file=sys.stderr)
        return 1
    wanted, left_out = documents(port)
    try:
        shutil.rmtree(ROOT / options.dir, ignore_errors=True)
        with Sandbox(options.sandbox, options.dir) as sandbox:
            families = {document["source_type"] for _, document, state in wanted if state != "REJECTED"}
            known = settings(sandbox)
            write(options.dir, sandbox, known, {"allowlist": sorted(families), "files": {"roots": ["seeds/data"]}, **known["policy"], **POLICY})
            with SandboxDaemon(options.aam, options.dir, port) as daemon:
                print(f"vendors: {VENDORS.name}/*.yaml behind {sandbox.read('addresses.json')['proxy']}; daemon: http://127.0.0.1:{port}/", flush=True)
                watcher = Watcher(daemon)
                reached = onboard(daemon, watcher, wanted)
                show(daemon, left_out)
                if not options.once:
                    with contextlib.suppress(KeyboardInterrupt):
                        while daemon.process.poll() is None and sandbox.process.poll() is None:
                            watcher.look()
                            time.sleep(1.0)
                return 0 if reached else 1
    except Problem as problem:
        print(f"sandbox: {problem}", file=sys.stderr)
    except KeyboardInterrupt:
        print("sandbox: interrupted", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
