"""Writes messages, fields and values that the protocol may have one day: unknown types, TRACE and CONTROL messages of unknown
kinds, unknown log levels and sync modes, null where a value is expected. Then it works."""

from connector import STREAM, catalog, emit, run


def fault(command, config):
    emit("HEARTBEAT", heartbeat={"at": 1})
    emit("DESTINATION_CATALOG", destination_catalog={"operations": []})
    emit("TRACE", trace={"type": "PROGRESS", "emitted_at": 1.5, "progress": {"percent": 10}})
    emit("TRACE", trace={"type": "ANALYTICS", "emitted_at": 1.5, "analytics": {"type": "x", "value": "1"}})
    emit("CONTROL", control={"type": "SLOW_DOWN", "emitted_at": 1.5, "slowDown": {"seconds": 3}})
    emit("LOG", log={"level": "NOTICE", "message": "a level of its own", "context": {"a": [1]}})
    emit("LOG", log={"level": None, "message": None})
    emit("STATE", state={"type": "GLOBAL", "global": {"shared_state": None}}, future=None)


def discover(config):
    stream = {**STREAM, "supported_sync_modes": ["full_refresh", "hourly"], "namespace": None, "default_cursor_field": None, "volume": {"rows": 3}}
    catalog([stream])


run(fault, discover=discover)
