"""Writes to standard output what is not a message: plain text, customer data, JSON without a type, bytes that are not UTF-8,
a progress bar without line feeds, blank lines and carriage returns. Then it works."""

import sys

from connector import run


def fault(command, config):
    out = sys.stdout.buffer
    out.write(b"Loading extension modules\r\n\n\n")
    out.write(b"jane.doe@example.com;4111 1111 1111 1111\n")
    out.write(b'{"rows": 3, "seconds": 0.2}\n[1, 2]\n"text"\nnull\n')
    out.write(b"\xff\xfe\x00\x80 bytes\n")
    out.write(b"\r".join(b"%3d %%" % percent for percent in range(0, 101, 10)) + b"\n")
    out.write(b'{"type": "LOG", "log": {"level": "INFO", "mess\n')
    out.write(b"Traceback (most recent call last):\n  File 'x', line 1\n")
    out.flush()


run(fault)
