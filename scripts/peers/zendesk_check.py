"""The package zenpy as a caller of the sandbox: zendesk_check.py SUBDOMAIN KIND SECRET [E-MAIL]

KIND is oauth or api_token. Reads the user, the groups page by page, and the fields; prints what it got.
"""
import json, sys

import zenpy
from zenpy.lib.exception import APIException

subdomain, kind, secret, *email = sys.argv[1:]
login = {"oauth_token": secret} if kind == "oauth" else {"email": email[0], "token": secret}
client = zenpy.Zenpy(subdomain=subdomain, **login)


def attempt(read):
    try:
        return read()
    except APIException as error:
        response = error.response
        return {"error": response.status_code, "message": response.text}


def user():
    me = client.users.me()
    return {"id": me.id, "role": me.role, "url": me.url}


print(json.dumps({
    "user": attempt(user),
    "groups": attempt(lambda: [group.name for group in client.groups()]),
    "pages": attempt(lambda: [group.name for group in client.groups(cursor_pagination=5)]),
    "ticket_fields": attempt(lambda: [field.title for field in client.ticket_fields()]),
    "user_fields": attempt(lambda: [field.key for field in client.user_fields()]),
    "brands": attempt(lambda: [brand.subdomain for brand in client.brands()]),
}))
