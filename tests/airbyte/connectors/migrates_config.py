"""Brings its config to a newer form before anything else, as connectors of the CDK do: it writes the file of its command line, and
says so in a CONTROL message. The check fails if the file cannot be written."""

import json
import sys

from connector import control, run, status


def check(config):
    path = sys.argv[sys.argv.index("--config") + 1]
    config["projects_list"] = str(config.pop("projects", "")).split()
    try:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(config, file)
    except OSError as refused:
        status(False, f"the config cannot be written: {refused}")
        return
    control(config)
    status(True)


run(check=check)
