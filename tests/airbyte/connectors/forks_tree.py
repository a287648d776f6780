"""Starts a tree of processes that outlive it: children, grandchildren, some of which try to leave the process group and the
session and ignore SIGTERM. Their process ids are in a LOG message (`tree: PID PID …`). It answers and ends, or waits with its
tree if `wait` is true. `width` children (3) have `width` children each."""

import os
import signal
import time

from connector import log, run


def sleep_forever(leave):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if leave:
        # Confinement refuses both. The process stays then, which is what a test wants to see.
        for attempt in (os.setsid, lambda: os.setpgid(0, 0)):
            try:
                attempt()
            except OSError:
                pass
    while True:
        time.sleep(3600)


def fault(command, config):
    width, (reader, writer) = config.get("width", 3), os.pipe()
    for child in range(width):
        if os.fork() == 0:
            for grandchild in range(width):
                if os.fork() == 0:
                    os.write(writer, b"%d " % os.getpid())
                    sleep_forever(leave=grandchild % 2 == 0)
            os.write(writer, b"%d " % os.getpid())
            sleep_forever(leave=child % 2 == 1)
    os.close(writer)
    pids = b""
    while len(pids.split()) < width + width * width:
        part = os.read(reader, 4096)
        if not part:
            break
        pids += part
    log(f"tree: {pids.decode().strip()}")
    while config.get("wait"):
        time.sleep(3600)


run(fault)
