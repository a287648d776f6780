#!/usr/bin/env python3
"""The smoke test: pushes five real sources through the API of a daemon, then prints the exec summary.

    python3 scripts/smoke_90.py [--dir var/smoke] [--port 5090] [--twice]

It starts and stops its own daemon, with its own registry, an empty intents folder, policy/smoke.yaml and its own port;
daemons on other ports are left alone. The registry is kept, so a second run must find the same numbers; --twice checks
that. Port 0 selects a free port.

Exit code: 0 if coverage reaches the target, 2 if it does not, 1 after an error.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import exec_summary
from exec_summary import Problem, call

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAYLOADS = ROOT / "seeds" / "intents"
POLICY = "policy/smoke.yaml"
# The port and the folder that the payloads contain. A run with another port or folder replaces them.
PORT, FOLDER = 5090, "var/smoke"
# The daemon must be ready, and must stop, within these numbers of seconds.
READY, STOPPED = 60.0, 40.0
# Where there is no terminal, a line about the progress is printed after this number of seconds.
LINE_INTERVAL = 10.0


def taken_by(port):
    """A description of the program that uses the port; None if the port is free."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((exec_summary.HOST, port))
            return None
        except OSError as error:
            holder = f"another program ({error.strerror})"
    try:
        _, running = call(port, "GET", "/version", timeout=5.0)
        if isinstance(running, dict) and running.get("service") == "aam":
            return f"an AAM (pid {running.get('pid')}, registry {running.get('registry')})"
    except Problem:
        pass
    return holder


def free_port():
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.bind((exec_summary.HOST, 0))
        return probe.getsockname()[1]


class Progress:
    """Says on stderr what goes on: one line that is written again on a terminal, a plain line every 10 s elsewhere."""

    def __init__(self, total):
        self.total, self.done, self.doing, self.times = total, 0, "", {}
        self.started, self.ended, self.lock = time.monotonic(), threading.Event(), threading.Lock()
        self.terminal = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        self.clear()

    @contextlib.contextmanager
    def step(self, doing, source=None):
        """Shows `doing` until the block ends. The time of a source counts for the slowest ones."""
        self.doing, began = doing, time.monotonic()
        try:
            yield
        finally:
            if source:
                self.done += 1
                self.times[source] = time.monotonic() - began

    def line(self):
        filled = 24 * self.done // self.total
        bar = f"[{'=' * filled}{' ' * (24 - filled)}] " if self.terminal else ""
        slowest = sorted(self.times.items(), key=lambda item: -item[1])[:3]
        slow = "; the slowest: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in slowest) if slowest else ""
        return f"smoke-90 {bar}{self.done} of {self.total} sources, {time.monotonic() - self.started:.0f} s: {self.doing}{slow}"

    def say(self, text):
        """Prints a line of the output above what goes on."""
        with self.lock:
            self.clear()
            print(text, flush=True)

    def run(self):
        interval = 0.25 if self.terminal else LINE_INTERVAL
        while not self.ended.wait(interval):
            with self.lock:
                self.clear()
                end = "" if self.terminal else "\n"
                width = shutil.get_terminal_size().columns - 1 if self.terminal else None
                print(self.line()[:width], end=end, file=sys.stderr, flush=True)

    def clear(self):
        if self.terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


class Daemon:
    """A daemon with its own registry."""

    def __init__(self, aam, folder, port):
        self.aam, self.folder, self.port = aam, folder, port
        self.registry = f"{folder}/aam.db"
        self.common = ["--registry", self.registry, "--intents", f"{folder}/intents", "--policy", POLICY]
        # Settings for another daemon must not apply to this one.
        own = {"PORT", "AAM_BIND", "AAM_TOKEN", "AAM_SEEDS"}
        self.environment = {name: value for name, value in os.environ.items() if name not in own}

    def __enter__(self):
        holder = taken_by(self.port)
        if holder:
            raise Problem(f"port {self.port} is taken by {holder}; stop it, or choose another port: SMOKE_PORT=N make smoke-90")
        (ROOT / self.folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        (ROOT / self.folder / "intents").mkdir(exist_ok=True)
        self.log_path = ROOT / self.folder / "aam.log"
        with open(os.open(self.log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as log:
            command = [self.aam, "serve", "--port", str(self.port), *self.common]
            self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def wait_until_ready(self):
        until = time.monotonic() + READY
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise Problem(f"the daemon exited with {self.process.returncode}; the end of its log:\n{self.log_tail()}")
            with contextlib.suppress(Problem):
                status, running = call(self.port, "GET", "/version", timeout=5.0)
                if status == 200 and running.get("pid") == self.process.pid and call(self.port, "GET", "/readyz", timeout=5.0)[0] == 200:
                    return
            time.sleep(0.05)
        raise Problem(f"the daemon was not ready after {READY:.0f} s; the end of its log:\n{self.log_tail()}")

    def log_tail(self):
        return "\n".join(self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-10:])

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOPPED)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise Problem(f"the daemon did not stop within {STOPPED:.0f} s and was killed; see {self.log_path}") from None

    def run(self, *arguments):
        """Runs another command on the same registry and returns its stdout."""
        done = subprocess.run([self.aam, *arguments, *self.common], cwd=ROOT, env=self.environment, capture_output=True, text=True, encoding="utf-8", check=False)
        if done.returncode not in (0, 2):
            raise Problem(f"aam {' '.join(arguments)} exited with {done.returncode}: {done.stderr.strip()}")
        return done.stdout


def push(daemon, token, payload):
    """Pushes one payload and returns a line about the response."""
    text = payload.read_text(encoding="utf-8")
    text = text.replace(f"127.0.0.1:{PORT}/", f"127.0.0.1:{daemon.port}/").replace(f"jdbc:sqlite:{FOLDER}/", f"jdbc:sqlite:{daemon.folder}/")
    status, answer = call(daemon.port, "POST", "/connections/onboard", token, text.encode(), proven_for=ROOT / daemon.registry)
    if status not in (200, 201, 202, 409):
        raise Problem(f"{payload.name} was refused: {status}: {answer.get('detail') or answer.get('title')}")
    return f"{status} {answer['status']:<20} {answer['source_type']:<10} {answer['resource_ids'][0]}  ({answer['message']})"


def once(aam, folder, port):
    """One run: (exit code, the funnel without its time)."""
    payloads = sorted(PAYLOADS.glob("*.json"))
    with Progress(len(payloads)) as progress, contextlib.ExitStack() as stack:
        with progress.step("starting the daemon"):
            daemon = stack.enter_context(Daemon(aam, folder, port))
        token_file = f"{daemon.registry}.admin-token"
        token = (ROOT / token_file).read_text(encoding="ascii").strip()
        progress.say(f"daemon on port {port}, registry {daemon.registry}, log {folder}/aam.log")
        for payload in payloads:
            with progress.step(f"connecting {payload.stem}", payload.stem):
                line = push(daemon, token, payload)
            progress.say(line)
        progress.doing = "comparing the summaries and verifying the registry"
        command = [sys.executable, "scripts/exec_summary.py", "--port", str(port), "--token-file", token_file]
        done = subprocess.run(command, cwd=ROOT, env=daemon.environment, capture_output=True, text=True, encoding="utf-8", check=False)
        if done.returncode == 1:
            raise Problem(done.stderr.strip())
        funnel = exec_summary.fetch(port, "autonomy", token, ROOT / daemon.registry)
        # The script, the API and `aam report` must print the same summary.
        summaries = {"the API": "\n".join(funnel["summary"]) + "\n", "aam report": daemon.run("report")}
        for name, summary in summaries.items():
            if summary != done.stdout:
                raise Problem(f"exec_summary.py and {name} print different summaries:\n{done.stdout}---\n{summary}")
    print(daemon.run("verify").strip(), flush=True)
    print(done.stdout, end="", flush=True)
    del funnel["as_of"]
    return done.returncode, funnel


def main():
    sys.stdout.reconfigure(encoding="utf-8")
    parser = argparse.ArgumentParser(description="Pushes five real sources through the API of its own daemon, then prints the exec summary.")
    parser.add_argument("--aam", default="target/debug/aam", help="the binary; default: %(default)s")
    parser.add_argument("--port", type=int, default=PORT, help="default: %(default)s; 0: any free port")
    parser.add_argument("--dir", help=f"folder of the run below the repository; default: {FOLDER}, or {FOLDER}/port-N for another port")
    parser.add_argument("--twice", action="store_true", help="run twice and compare all numbers")
    options = parser.parse_args()
    port = options.port or free_port()
    # The port is part of a payload's identity, so another port gets a registry of its own.
    folder = options.dir or (FOLDER if port == PORT else f"{FOLDER}/port-{port}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        code, first = once(options.aam, folder, port)
        if options.twice:
            again, second = once(options.aam, folder, port)
            changed = [name for name in first if first[name] != second.get(name)]
            if changed:
                raise Problem("the second run changed " + ", ".join(f"{name} from {first[name]} to {second.get(name)}" for name in changed))
            print(f"smoke-90: all {len(first)} fields are equal after the second run")
            code = code or again
        return code
    except Problem as problem:
        print(f"smoke-90: {problem}", file=sys.stderr)
    except KeyboardInterrupt:
        print("smoke-90: interrupted", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
