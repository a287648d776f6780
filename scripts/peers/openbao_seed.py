"""Waits for the servers of openbao.sh, initializes and unseals all but RAW, and adds their keys to the file of the peer."""

import json
import ssl
import sys
import time
import urllib.error
import urllib.request


def call(context, url, body=None):
    """The answer of one call, or None while the server does not answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method="POST" if data else "GET")
    try:
        with urllib.request.urlopen(request, timeout=5, context=context) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{url}: {error.code} {error.read()[:500]!r}") from error
    except OSError:
        return None


def wait(context, url, accept):
    """Repeats a call for up to a minute until `accept` is content with its answer."""
    for _ in range(600):
        answer = call(context, url)
        if answer is not None and accept(answer):
            return answer
        time.sleep(0.1)
    raise SystemExit(f"{url} does not answer as expected")


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        env = dict(line.strip().split("=", 1) for line in file)
    context = ssl.create_default_context(cafile=env["TLS_CA_FILE"])
    lines = []
    for name in ("DEV", "SEAL", "TLS", "RAW"):
        url = env[f"{name}_URL"]
        wait(context, f"{url}/v1/sys/seal-status", lambda answer: "sealed" in answer)
        if name == "RAW":
            continue
        keys = call(context, f"{url}/v1/sys/init", {"secret_shares": 1, "secret_threshold": 1})
        call(context, f"{url}/v1/sys/unseal", {"key": keys["keys_base64"][0]})
        wait(context, f"{url}/v1/sys/leader", lambda answer: answer is not None)
        lines += [f"{name}_TOKEN={keys['root_token']}", f"{name}_KEY={keys['keys_base64'][0]}"]
    with open(sys.argv[1], "a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
