"""Discovers one stream of `columns` (20,000) columns, like a table of a data warehouse; the line has more than 1 MB. `streams`
(1) says how many such streams it has. The record of `read` has as many fields."""

from connector import catalog, record, run


def columns(config):
    return [f"column_{number:05}" for number in range(config.get("columns", 20_000))]


def discover(config):
    kinds = [{"type": ["null", "string"], "description": "filled by the import"}, {"type": ["null", "integer"]}, {"type": "boolean"}]
    properties = {name: kinds[at % len(kinds)] for at, name in enumerate(columns(config))}
    schema = {"type": "object", "properties": properties}
    catalog(
        [
            {"name": f"wide_{number}", "json_schema": schema, "supported_sync_modes": ["full_refresh"]}
            for number in range(config.get("streams", 1))
        ]
    )


def read(config, streams):
    record({name: None for name in columns(config)}, streams[0])


run(discover=discover, read=read)
