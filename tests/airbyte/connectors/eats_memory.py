"""Takes memory until it is stopped, at most `megabytes` (4096). A MemoryError is reported as a TRACE, as the CDK does, or ends
the process with a traceback on standard error if `report` is false. Without a stop the check fails and says how much it took."""

import sys
import traceback

from connector import error, log, run, status


def fault(command, config):
    taken = []
    try:
        for _ in range(config.get("megabytes", 4096) // 16):
            # Random access would not matter; the pages only have to be written so that they count.
            taken.append(bytearray(b"x" * (16 * 1024 * 1024)))
    except MemoryError:
        megabytes = 16 * len(taken)
        taken.clear()
        if not config.get("report", True):
            raise
        log(f"memory ended after {megabytes} MB", "ERROR")
        error("Something went wrong in the connector", "system_error", stack_trace=traceback.format_exc())
        sys.exit(1)
    status(False, f"took {16 * len(taken)} MB and was not stopped")
    sys.exit(0)


run(fault)
