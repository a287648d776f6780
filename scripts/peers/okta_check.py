"""The package okta 3.4.6 as a caller of the sandbox: okta_check.py PROXY CREDENTIALS CLIENT SCOPE...

Logs in with the private key of a client of the sandbox, reads users, groups and apps page by page, and prints what it got. CLIENT
is the client's name in CREDENTIALS, the file credentials.json of the sandbox.
"""
import asyncio, json, sys

from okta.client import Client

proxy, credentials, name, *scopes = sys.argv[1:]
own = json.load(open(credentials))["okta"][name]
host, port = proxy.split(":")


async def everything(list_page):
    items, pages, after = [], 0, None
    while True:
        read, response, error = await list_page(limit=5, **({"after": after} if after else {}))
        if error:
            return {"error": str(error)}
        items.extend(read)
        pages += 1
        links = [link for link in response.headers.getall("Link", []) if 'rel="next"' in link]
        if not links:
            return {"pages": pages, "ids": [item.id for item in items]}
        after = links[0].split("after=")[1].split("&")[0].split(">")[0]


async def main():
    client = Client({
        "orgUrl": "https://acme.okta.com",
        "authorizationMode": "PrivateKey",
        "clientId": own["client_id"],
        "scopes": scopes,
        "privateKey": own["private_key"],
        "proxy": {"host": host, "port": int(port)},
        "rateLimit": {"maxRetries": 0},
    })
    lists = {"users": client.list_users, "groups": client.list_groups, "apps": client.list_applications}
    print(json.dumps({key: await everything(read) for key, read in lists.items()}))


asyncio.run(main())
