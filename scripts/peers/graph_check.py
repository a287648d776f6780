"""Logs in to the sandbox with azure-identity and reads lists to their end. Prints one JSON object.

    graph_check.py TENANT CLIENT_ID SECRET PATH...

HTTPS_PROXY and REQUESTS_CA_BUNDLE lead to the sandbox.
"""

import json
import sys

import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ClientSecretCredential

tenant, client_id, secret, *paths = sys.argv[1:]
credential = ClientSecretCredential(tenant, client_id, secret)
try:
    token = credential.get_token("https://graph.microsoft.com/.default")
except ClientAuthenticationError as error:
    print(json.dumps({"refused": str(error)}))
    sys.exit(0)

answers = {}
for path in paths:
    url, items, pages = f"https://graph.microsoft.com/v1.0{path}", [], 0
    while url:
        response = requests.get(url, headers={"Authorization": f"Bearer {token.token}"}, timeout=30)
        body = response.json()
        if response.status_code != 200:
            items = [body["error"]["code"]]
            break
        items += body.get("value", [body])
        url, pages = body.get("@odata.nextLink"), pages + 1
    answers[path] = {"status": response.status_code, "pages": pages, "items": items}
print(json.dumps({"expires_on": token.expires_on, "answers": answers}))
