"""Each marked line has a mistake, which mypy must refuse: an unused ignore is an error with --warn-unused-ignores."""
from aam_client import AuthenticatedClient
from aam_client.api.connections import list_connections
from aam_client.models import ConnectionIntentOwner, ConnectionResult, State

client = AuthenticatedClient(base_url="http://127.0.0.1", token="none")
state = State.ACTIV  # type: ignore[attr-defined]
list_connections.sync(client=client, state="ACTIVE!")  # type: ignore[arg-type]
list_connections.sync(client=client, statee=State.ACTIVE)  # type: ignore[call-arg]
ConnectionIntentOwner(user="owner@acme.example", confidence="0.95", why="admin")  # type: ignore[arg-type]


def read(result: ConnectionResult) -> str:
    return result.stauts  # type: ignore[attr-defined]
