"""Uses the sandbox's Airbyte with Airbyte's own client, the package airbyte-api. Prints JSON with what it read.

    airbyte_platform_check.py BASE_URL WORKSPACE
"""

import json
import sys

from airbyte_api import AirbyteAPI, api, errors, models

base, workspace = sys.argv[1:]


def client(secret: str) -> AirbyteAPI:
    # The client joins a token URL without a host to the root of the server.
    application = models.SchemeClientCredentials(
        client_id="airbyte-sandbox-client", client_secret=secret, token_url=base + "/applications/token"
    )
    return AirbyteAPI(server_url=base, security=models.Security(client_credentials=application))


own = client("airbyte-sandbox-secret")
found = own.workspaces.get_workspace(request=api.GetWorkspaceRequest(workspace_id=workspace)).workspace_response
definitions = own.source_definitions.list_source_definitions(request=api.ListSourceDefinitionsRequest(workspace_id=workspace))
faker = next(one for one in definitions.definitions_response.data if one.docker_repository == "airbyte/source-faker")
created = own.sources.create_source(
    request=models.SourceCreateRequest(
        name="made by the client", workspace_id=workspace, definition_id=faker.id, configuration=models.SourceFaker(count=7)
    )
).source_response
read = own.sources.get_source(request=api.GetSourceRequest(source_id=created.source_id)).source_response
listed = own.sources.list_sources(request=api.ListSourcesRequest(workspace_ids=[workspace], limit=100)).sources_response
streams = own.streams.get_stream_properties(request=api.GetStreamPropertiesRequest(source_id=created.source_id))
try:
    client("another-secret").workspaces.list_workspaces(request=api.ListWorkspacesRequest())
    refused = None
except Exception as error:  # The client has no class of its own for a refused token.
    refused = f"{type(error).__name__}: {error}"
print(
    json.dumps(
        {
            "workspace": found.workspace_id,
            "definitions": sorted(one.docker_repository for one in definitions.definitions_response.data),
            "created": created.source_id,
            "read": read.source_id,
            "name": read.name,
            "listed": [one.source_id for one in listed.data],
            "streams": [one.stream_name for one in streams.stream_properties_response],
            "refused": refused,
        }
    )
)
