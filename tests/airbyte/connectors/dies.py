"""Ends without an answer: with exit code 137, as a container does whose memory ran out, or with another `exit` code, or by
`signal`. `exit: 0` is a connector that ends silently with success."""

import os
import sys

from connector import log, run


def fault(command, config):
    log("about to end")
    if "signal" in config:
        os.kill(os.getpid(), config["signal"])
    sys.exit(config.get("exit", 137))


run(fault)
