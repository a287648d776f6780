"""Has no fault. Reads an HTTP vendor through the proxy of its environment: `url` and `token` are its configuration.

`check` asks for URL/me, `discover` for URL/schema (a map of streams to JSON schemas), `read` for the pages URL/STREAM?page=N until
a page is empty. A refused token fails the check; 429 and 5xx are transient; everything else is a failure of the system.
"""

import json
import sys

from connector import catalog, error, log, record, request, run, status

PROPERTIES = {"url": {"type": "string"}, "token": {"type": "string", "airbyte_secret": True}}


def get(config, path):
    code, body = request(f"{config['url']}/{path}", config["token"])
    log(f"GET {path} answered {code}")
    if code == 200:
        return json.loads(body)
    if code == 429 or code >= 500:
        error(f"The vendor answered {code}", "transient_error", internal_message=body.decode(errors="replace"))
    elif code in (401, 403):
        error(f"The vendor refused the token ({code})", "config_error", internal_message=body.decode(errors="replace"))
    else:
        error(f"The vendor answered {code}", "system_error", internal_message=body.decode(errors="replace"))
    sys.exit(1)


def check(config):
    code, body = request(f"{config['url']}/me", config["token"])
    if code in (401, 403):
        status(False, f"The vendor refused the token ({code}): {body.decode(errors='replace')}")
    elif code == 200:
        status(True)
    else:
        get(config, "me")


def discover(config):
    streams = get(config, "schema")
    catalog(
        [
            {"name": name, "json_schema": schema, "supported_sync_modes": ["full_refresh"], "source_defined_primary_key": [["id"]]}
            for name, schema in streams.items()
        ]
    )


def read(config, streams):
    for stream in streams:
        page = 1
        while records := get(config, f"{stream}?page={page}"):
            for data in records:
                record(data, stream)
            page += 1


run(properties=PROPERTIES, check=check, discover=discover, read=read)
