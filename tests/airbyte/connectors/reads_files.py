"""Reads files that are none of its business, lists folders and writes outside of its own folder. The check passes only if all
of it is refused; otherwise it fails and names what was possible. `files` are further files to read, `write` further ones to write."""

import glob
import os
import tempfile

from connector import log, run, status

FILES = ["/etc/shadow", "/etc/ssh/ssh_host_ed25519_key", "/root/.bashrc", "/proc/1/environ", "/proc/1/cmdline", f"/proc/{os.getppid()}/environ"]
WRITES = ["/tmp/aam-written-outside", "/var/tmp/aam-written-outside", "/aam-written-outside", __file__ + ".written"]


def check(config):
    possible = []
    for path in FILES + glob.glob("/home/*/.ssh/*") + config.get("files", []):
        try:
            with open(path, "rb") as file:
                file.read(1)
            possible.append(f"read {path}")
        except OSError as refused:
            log(f"{path}: {refused.strerror}")
    for path in ("/", "/root", "/home", "/tmp"):
        try:
            possible.append(f"list {path}: {len(os.listdir(path))} entries")
        except OSError as refused:
            log(f"{path}: {refused.strerror}")
    for path in WRITES + config.get("write", []):
        try:
            with open(path, "wb") as file:
                file.write(b"x")
            possible.append(f"write {path}")
            os.unlink(path)
        except OSError as refused:
            log(f"{path}: {refused.strerror}")
    # Its own temporary folder has to work: the CDK writes there in every command.
    with tempfile.TemporaryFile() as file:
        file.write(b"x")
    status(not possible, "; ".join(possible) or None)


run(check=check)
