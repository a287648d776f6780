"""A connector of Airbyte for the bench: each command takes as much memory and time as a small one in Python does."""

import json
import sys
import time

MEMORY_MB = 120
SECONDS = 0.5


def say(kind, **message):
    print(json.dumps({"type": kind, **message}), flush=True)


command = sys.argv[1]
# The pages only count once they are written.
taken = bytearray(b"x") * (MEMORY_MB << 20)
time.sleep(SECONDS)
schema = {"type": "object", "properties": {"id": {"type": "integer"}, "name": {"type": "string"}}}
if command == "spec":
    say("SPEC", spec={"connectionSpecification": {"type": "object", "properties": {"tenant": {"type": "string"}}}})
elif command == "check":
    say("CONNECTION_STATUS", connectionStatus={"status": "SUCCEEDED"})
elif command == "discover":
    say("CATALOG", catalog={"streams": [{"name": "people", "json_schema": schema, "supported_sync_modes": ["full_refresh"]}]})
else:
    for number in range(20):
        record = {"stream": "people", "data": {"id": number, "name": f"name {number}"}, "emitted_at": 0}
        say("RECORD", record=record)
