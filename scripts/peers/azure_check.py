"""Logs in to the sandbox with azure-identity and reads a subscription with azure-mgmt-resource. Prints one JSON object.

    azure_check.py TENANT CLIENT_ID SECRET SUBSCRIPTION

HTTPS_PROXY and REQUESTS_CA_BUNDLE lead to the sandbox.
"""

import json
import sys

from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.identity import ClientSecretCredential
from azure.mgmt.resource import ResourceManagementClient, SubscriptionClient

tenant, client_id, secret, subscription = sys.argv[1:]
credential = ClientSecretCredential(tenant, client_id, secret)
client = ResourceManagementClient(credential, subscription)
subscriptions = SubscriptionClient(credential)


def read(call):
    """The result of `call`, or the status and the code of the error."""
    try:
        return call()
    except ClientAuthenticationError as error:
        return {"refused": str(error)}
    except HttpResponseError as error:
        return {"status": error.status_code, "code": error.error.code if error.error else None}


def own():
    found = subscriptions.subscriptions.get(subscription)
    return {"subscription_id": found.subscription_id, "state": str(getattr(found.state, "value", found.state)), "tenant_id": found.tenant_id}


print(
    json.dumps(
        {
            "subscription": read(own),
            "subscriptions": read(lambda: [found.subscription_id for found in subscriptions.subscriptions.list()]),
            "groups": read(lambda: [group.name for group in client.resource_groups.list(top=5)]),
            "resources": read(lambda: [resource.name for resource in client.resources.list(top=5)]),
            "providers": read(lambda: [provider.namespace for provider in client.providers.list()]),
        }
    )
)
