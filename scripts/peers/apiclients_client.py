"""A program that uses the client of openapi-python-client. It prints what it saw as JSON.

usage: apiclients_client.py URL TOKEN FILE
"""
import json
import sys
from datetime import datetime, timezone
from uuid import UUID

from aam_client import AuthenticatedClient
from aam_client.api.catalogs import get_connection_catalog
from aam_client.api.connections import get_connection, heal_connection, list_connections, onboard_connection
from aam_client.api.metrics import get_funnel
from aam_client.models import (
    CatalogAnswer,
    ConnectionIntent,
    ConnectionIntentEvidence,
    ConnectionIntentEvidenceSource,
    ConnectionIntentOwner,
    ConnectionIntentOwnerWhy,
    ConnectionIntentRiskLevel,
    ConnectionPage,
    ConnectionResult,
    Funnel,
    Problem,
    State,
)


def main(url: str, token: str, file: str) -> None:
    client = AuthenticatedClient(base_url=url, token=token)
    intent = ConnectionIntent(
        source_type="filesource",
        resource_ids=[file],
        risk_level=ConnectionIntentRiskLevel.LOW,
        evidence=ConnectionIntentEvidence(
            status="Sanctioned", source=ConnectionIntentEvidenceSource.IDP, ts=datetime(2026, 11, 8, tzinfo=timezone.utc)
        ),
        owner=ConnectionIntentOwner(user="owner@acme.example", confidence=0.95, why=ConnectionIntentOwnerWhy.ADMIN),
    )
    pushed = onboard_connection.sync(client=client, body=intent)
    assert isinstance(pushed, ConnectionResult), pushed
    page = list_connections.sync(client=client, state=State.ACTIVE, limit=10)
    assert isinstance(page, ConnectionPage), page
    one = get_connection.sync(pushed.connection_id, client=client)
    assert isinstance(one, ConnectionResult) and one.steps, one
    healed = heal_connection.sync(pushed.connection_id, client=client)
    assert isinstance(healed, ConnectionResult), healed
    funnel = get_funnel.sync(client=client)
    assert isinstance(funnel, Funnel), funnel
    catalog = get_connection_catalog.sync(pushed.connection_id, client=client)
    assert isinstance(catalog, CatalogAnswer), catalog
    missing = get_connection.sync(UUID("8d5b2ab0-3a0f-5d2c-9d5c-3f0f3b1c2d4e"), client=client)
    assert isinstance(missing, Problem), missing
    seen = {
        "pushed": pushed.status,
        "listed": [str(connection.connection_id) for connection in page.connections],
        "steps": [step.step for step in one.steps],
        "healed": healed.status,
        "active": funnel.active,
        "streams": catalog.streams_total,
        "code": missing.code,
    }
    print(json.dumps(seen))


main(*sys.argv[1:4])
