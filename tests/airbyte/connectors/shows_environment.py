"""Looks at what it was started with: the check fails and names every variable of its environment that is not in `allowed`, open
files besides the three standard ones, a home that exists, and user id 0. It names variables, never their values."""

import os

from connector import log, run, status

# LC_CTYPE is set by Python itself if the locale is C.
ALLOWED = ["LC_CTYPE"]


def check(config):
    found = [f"variable {name}" for name in os.environ if name not in ALLOWED + config.get("allowed", [])]
    for number in range(3, 1024):
        try:
            os.fstat(number)
            found.append(f"open file {number}")
        except OSError:
            pass
    if os.geteuid() == 0:
        found.append("user id 0")
    home = os.path.expanduser("~")
    if home != os.getcwd() and os.access(home, os.R_OK):
        found.append(f"home {home}")
    log(f"folder {os.getcwd()}")
    status(not found, "; ".join(found) or None)


run(check=check)
