"""Tries to write: sends `method` (POST) to `url` with the token. The check passes only if the request was refused with 403; the
message of its failure is the status that came back. With `ignore` it does not care, like a connector that swallows errors. With
`wait_seconds` it does nothing for so long after a refusal, like a connector that tries again later. `headers` are sent too, and with
`no_body` the request has no body."""

import time
import urllib.error
import urllib.request

from connector import log, run, status

PROPERTIES = {"url": {"type": "string"}, "token": {"type": "string", "airbyte_secret": True}}


def check(config):
    headers = {"Authorization": f"Bearer {config.get('token', '')}", "Content-Type": "application/json"}
    headers.update(config.get("headers", {}))
    body = None if config.get("no_body") else b'{"name": "written"}'
    request = urllib.request.Request(config["url"], body, headers, method=config.get("method", "POST"))
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            code, body = response.status, response.read()
    except urllib.error.HTTPError as refused:
        code, body = refused.code, refused.read()
    log(f"the answer was {code}: {body.decode(errors='replace')}")
    if code == 403:
        time.sleep(config.get("wait_seconds", 0))
    status(config.get("ignore") or code == 403, f"the answer was {code}")


run(properties=PROPERTIES, check=check)
