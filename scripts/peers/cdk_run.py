"""Runs a manifest with airbyte-cdk as a connector that brings its manifest along.

    cdk_run.py MANIFEST spec
    cdk_run.py MANIFEST check|discover --config C
    cdk_run.py MANIFEST read --config C --catalog K

`source-declarative-manifest spec` prints the specification of that command itself; here `spec` is the manifest's.
"""

import json
import sys

import yaml
from airbyte_cdk.entrypoint import AirbyteEntrypoint, launch
from airbyte_cdk.models import ConfiguredAirbyteCatalogSerializer
from airbyte_cdk.sources.declarative.concurrent_declarative_source import ConcurrentDeclarativeSource


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        manifest = yaml.safe_load(file)
    arguments = sys.argv[2:]
    asked = AirbyteEntrypoint.parse_args(arguments)
    config = catalog = None
    if getattr(asked, "config", None):
        with open(asked.config, encoding="utf-8") as file:
            config = json.load(file)
    if getattr(asked, "catalog", None):
        with open(asked.catalog, encoding="utf-8") as file:
            catalog = ConfiguredAirbyteCatalogSerializer.load(json.load(file))
    source = ConcurrentDeclarativeSource(catalog=catalog, config=config, state=[], source_config=manifest)
    launch(source=source, args=arguments)


main()
