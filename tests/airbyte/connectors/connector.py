"""What the connectors of this folder share: the command line and the messages of the Airbyte protocol.

Each connector has one fault, which its docstring describes. The fault happens in `check`, or in the command that the field
`fault_in` of the configuration names. The other commands work. Only the standard library is used, so that any Python runs them.
"""

import argparse
import json
import sys
import time
import urllib.error
import urllib.request

STREAM = {
    "name": "items",
    "json_schema": {"type": "object", "properties": {"id": {"type": "integer"}, "name": {"type": ["null", "string"]}}},
    "supported_sync_modes": ["full_refresh"],
    "source_defined_primary_key": [["id"]],
}


def emit(kind, **content):
    """Writes one message. Each is flushed, because a process that is ended loses what it has not flushed."""
    print(json.dumps({"type": kind, **content}), flush=True)


def log(message, level="INFO"):
    emit("LOG", log={"level": level, "message": message})


def error(message, failure_type, internal_message=None, stack_trace=None):
    content = {"message": message, "failure_type": failure_type, "internal_message": internal_message, "stack_trace": stack_trace}
    emit("TRACE", trace={"type": "ERROR", "emitted_at": time.time() * 1000, "error": content})


def status(passed, message=None):
    emit("CONNECTION_STATUS", connectionStatus={"status": "SUCCEEDED" if passed else "FAILED", "message": message})


def control(config):
    content = {"type": "CONNECTOR_CONFIG", "emitted_at": time.time() * 1000, "connectorConfig": {"config": config}}
    emit("CONTROL", control=content)


def catalog(streams):
    emit("CATALOG", catalog={"streams": streams})


def record(data, stream="items"):
    emit("RECORD", record={"stream": stream, "data": data, "emitted_at": int(time.time() * 1000)})


def request(url, token=None, form=None):
    """Returns the status and the body. The proxy and the authorities come from the environment: HTTP_PROXY, HTTPS_PROXY, SSL_CERT_FILE."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, form, headers), timeout=20) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()


def run(fault=None, properties=None, check=None, discover=None, read=None):
    """Runs the command of the command line. `fault(command, config)` runs first; if it returns, the command goes on."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    for name, files in {"spec": [], "check": ["config"], "discover": ["config"], "read": ["config", "catalog"]}.items():
        command = commands.add_parser(name)
        for file in files:
            command.add_argument(f"--{file}", required=True)
        if name == "read":
            command.add_argument("--state")
    arguments = parser.parse_args()
    if arguments.command == "spec":
        fields = {"fault_in": {"type": "string", "default": "check"}, **(properties or {})}
        schema = {"type": "object", "additionalProperties": True, "properties": fields}
        emit("SPEC", spec={"connectionSpecification": schema, "documentationUrl": "https://connector.invalid/"})
        return
    with open(arguments.config, encoding="utf-8") as file:
        config = json.load(file)
    if fault and config.get("fault_in", "check") == arguments.command:
        fault(arguments.command, config)
    if arguments.command == "check":
        check(config) if check else status(True)
    elif arguments.command == "discover":
        discover(config) if discover else catalog([STREAM])
    else:
        with open(arguments.catalog, encoding="utf-8") as file:
            streams = [stream["stream"]["name"] for stream in json.load(file)["streams"]]
        read(config, streams) if read else [record({"id": number, "name": f"item {number}"}) for number in range(3)]
    sys.stdout.flush()
