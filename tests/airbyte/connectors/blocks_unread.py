"""Reads faster than its output is read, through a bounded queue, and says goodbye when it is asked to end: both block for ever
once its output is not read. The records have 1 kB each and never end. It ends by itself within a second of a SIGTERM if its output is
drained, and never if it is not."""

import queue
import signal
import sys
import threading

from connector import log, record, run

ENDING = threading.Event()


def read(config, streams):
    waiting = queue.Queue(maxsize=100)

    def produce():
        number = 0
        while not ENDING.is_set():
            waiting.put({"id": number, "name": "x" * 1000})
            number += 1
        waiting.put(None)

    # The handler only sets a flag: the goodbye is written behind what waits in the queue.
    signal.signal(signal.SIGTERM, lambda *_: ENDING.set())
    threading.Thread(target=produce).start()
    while (data := waiting.get()) is not None:
        record(data, streams[0])
    log("goodbye")
    sys.stdout.flush()


run(read=read)
