"""Writes to standard output without an end: plain text, or valid LOG messages if `messages` is true, or one endless line if
`line` is true."""

import json
import sys

from connector import run


def fault(command, config):
    if config.get("line"):
        chunk = "x" * 65536
    elif config.get("messages"):
        chunk = (json.dumps({"type": "LOG", "log": {"level": "INFO", "message": "again " * 20}}) + "\n") * 400
    else:
        chunk = ("the same line again\n") * 3000
    while True:
        sys.stdout.write(chunk)


run(fault)
