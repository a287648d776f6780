"""Runs commands of airbyte-cdk's `source-declarative-manifest`, many in one process.

Each line of standard input is one case: {"arguments": ["check", "--config", C, "--manifest-path", M]}. For each case,
one line is printed: {"exit": 0, "stdout": "..."}. The package is imported once, and each case runs in its own fork. So
a case takes tenths of a second and does not affect the others.

With {"arguments": ["spec"], "manifest": M} the runner builds the source from the manifest, so `spec` prints the spec of
the manifest. The command itself always prints the same spec.

With "waits": false, the case does not wait: neither for retries nor for jobs and rate limits.
"""

import json
import os
import sys
import tempfile
import time
from types import TracebackType

import yaml
from airbyte_cdk.cli.source_declarative_manifest._run import handle_command
from airbyte_cdk.entrypoint import launch
from airbyte_cdk.logger import PRINT_BUFFER
from airbyte_cdk.sources.declarative.concurrent_declarative_source import ConcurrentDeclarativeSource


def run(case: dict) -> None:
    if case.get("waits") is False:
        time.sleep = lambda _seconds: None
    if "manifest" not in case:
        handle_command(case["arguments"])
        return
    with open(case["manifest"], encoding="utf-8") as file:
        manifest = yaml.safe_load(file)
    source = ConcurrentDeclarativeSource(catalog=None, config=None, state=[], source_config=manifest)
    launch(source=source, args=case["arguments"])


def child(case: dict, out: int) -> int:
    os.dup2(out, 1)
    try:
        run(case)
        return 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except BaseException as error:  # as the interpreter does for an uncaught exception
        trace: TracebackType | None = error.__traceback__
        sys.excepthook(type(error), error, trace)
        return 1
    finally:
        PRINT_BUFFER.flush()
        sys.stdout.flush()
        sys.stderr.flush()


def main() -> None:
    for line in sys.stdin:
        case = json.loads(line)
        with tempfile.TemporaryFile() as out:
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    code = child(case, out.fileno())
                finally:
                    os._exit(code)
            _, status = os.waitpid(pid, 0)
            out.seek(0)
            text = out.read().decode("utf-8", "replace")
        print(json.dumps({"exit": os.waitstatus_to_exitcode(status), "stdout": text}), flush=True)


main()
