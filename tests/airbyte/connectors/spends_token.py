"""Has a refresh token that works once: every command exchanges it at `url` (POST, form field `refresh_token`; the answer is
JSON with the next `refresh_token`) and hands the new configuration over in a CONTROL message. Then it works, or fails in `check`
if `fail` is true: the new token is valid all the same. A token that was spent before fails the check."""

import json
import sys
import urllib.parse

from connector import STREAM, catalog, control, error, record, request, run, status

PROPERTIES = {"url": {"type": "string"}, "refresh_token": {"type": "string", "airbyte_secret": True}}


def exchange(config):
    """Returns why the token was refused, if it was."""
    form = urllib.parse.urlencode({"grant_type": "refresh_token", "refresh_token": config["refresh_token"]}).encode()
    code, body = request(config["url"], form=form)
    if code != 200:
        return f"The token was refused ({code})"
    control({**config, "refresh_token": json.loads(body)["refresh_token"]})
    return None


def check(config):
    refused = exchange(config)
    if not refused and config.get("fail"):
        refused = "The account is suspended"
    status(not refused, refused)


def exchange_or_end(config):
    if refused := exchange(config):
        error(refused, "config_error")
        sys.exit(1)


def discover(config):
    exchange_or_end(config)
    catalog([STREAM])


def read(config, streams):
    exchange_or_end(config)
    record({"id": 1, "name": "item 1"}, streams[0])


run(properties=PROPERTIES, check=check, discover=discover, read=read)
