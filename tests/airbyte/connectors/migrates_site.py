"""Brings its config to a newer form before anything else, as connectors of the CDK do: the one `site` becomes the list `sites`, and an
ordinary field is added. It says so in a CONTROL message, and the check names what the connector works with."""

from connector import control, run, status

PROPERTIES = {"site": {"type": "string"}, "pages": {"type": "integer"}, "token": {"type": "string", "airbyte_secret": True}}


def check(config):
    if "sites" not in config:
        config["sites"] = [config.pop("site")]
        config["mode"] = "items"
        control(config)
    status(True, f"sites: {' '.join(config['sites'])}; pages: {config['pages']}")


run(properties=PROPERTIES, check=check)
