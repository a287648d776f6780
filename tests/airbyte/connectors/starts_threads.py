"""Starts `threads` (3,000) threads that wait. The check fails if they could all be started, or if the system refuses them."""

import threading
import time

from connector import run, status


def fault(command, config):
    threading.stack_size(64 * 1024)
    for _ in range(config.get("threads", 3000)):
        threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
    time.sleep(3)
    status(False, "all threads run")
    raise SystemExit(0)


run(fault)
