"""Prints its secret wherever it can: as plain text on both outputs, in LOG and TRACE messages, in a record, in the name of a
stream and in the message of its failure. The secret is the field `secret`; it may have several lines."""

import sys
import urllib.parse

from connector import STREAM, catalog, error, log, record, run, status

PROPERTIES = {"secret": {"type": "string", "airbyte_secret": True}}


def everywhere(config):
    secret = config["secret"]
    print(f"plain {secret}", flush=True)
    print(f"plain {secret}", file=sys.stderr, flush=True)
    for level in ("DEBUG", "INFO", "WARN", "ERROR"):
        log(f"the secret is {secret}; in an URL it is {urllib.parse.quote(secret, safe='')}", level)
    return secret


def check(config):
    secret = everywhere(config)
    trace = f"Traceback (most recent call last):\n  File 'x', line 1, in login({secret!r})\nValueError: {secret}\n"
    error(f"Login with {secret} failed", "config_error", internal_message=f"token={secret}", stack_trace=trace)
    status(False, f"Login with {secret} failed")


def discover(config):
    secret = everywhere(config)
    catalog([{**STREAM, "name": f"items_{secret}"}])


def read(config, streams):
    record({"id": 1, "name": everywhere(config)})


run(properties=PROPERTIES, check=check, discover=discover, read=read)
