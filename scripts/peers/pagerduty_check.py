"""PagerDuty's own client as a caller of the sandbox: pagerduty_check.py KEY [URL]

KEY is an API key, or an OAuth token if it begins with pd. Prints the subdomain and the kind of the key as the client finds them, and what
the lists have.
"""
import json, sys

import pagerduty

key, *url = sys.argv[1:]
kind = "bearer" if key.startswith("pd") else "token"
client = pagerduty.RestApiV2Client(key, auth_type=kind, base_url=url[0] if url else None)


def attempt(read):
    try:
        return read()
    except pagerduty.Error as error:
        response = getattr(error, "response", None)
        return {"error": getattr(response, "status_code", None), "message": str(error)}
    except TypeError:
        # The client cannot build the error of its property `subdomain` (7.2.0).
        return {"error": None, "message": "refused"}


print(json.dumps({
    "subdomain": attempt(lambda: client.subdomain),
    "access": attempt(lambda: client.api_key_access),
    "users": attempt(lambda: [user["id"] for user in client.iter_all("users", page_size=5)]),
    "services": attempt(lambda: [service["id"] for service in client.iter_all("services", page_size=5)]),
    "teams": attempt(lambda: [team["id"] for team in client.iter_all("teams", page_size=5)]),
}))
