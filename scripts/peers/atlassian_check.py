"""The package atlassian-python-api as a caller of the sandbox: atlassian_check.py CREDENTIALS

CREDENTIALS is JSON with the keys jira, wiki (each [USERNAME, TOKEN]), server, server_wiki and gateway (tokens). Reads a site, the
gateway and two Data Centers; prints what it got.
"""
import json, sys

from atlassian import Confluence, Jira

known = json.loads(sys.argv[1])


def attempt(read):
    try:
        return read()
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error)[:200]}


def basic(product, address, pair):
    return product(url=address, username=pair[0], password=pair[1], cloud=True)


def of_jira(client):
    return {
        "account": attempt(lambda: client.myself()["accountId"]),
        "fields": attempt(lambda: [field["id"] for field in client.get_all_fields()]),
        "issue_types": attempt(lambda: len(client.get_issue_types())),
        "may_edit": attempt(lambda: client.get_permissions("EDIT_ISSUES")["permissions"]["EDIT_ISSUES"]["havePermission"]),
        "issues": attempt(lambda: len(client.enhanced_jql("updated >= -30d", fields="updated")["issues"])),
        "projects": attempt(lambda: len(client.get("rest/api/3/project/search")["values"])),
    }


def of_wiki(client):
    return {
        "type": attempt(lambda: client.get("rest/api/user/current")["type"]),
        "spaces": attempt(lambda: len(client.get("api/v2/spaces")["results"])),
        "pages": attempt(lambda: len(client.get("api/v2/pages?limit=5")["results"])),
    }


SITE = "https://acme.atlassian.net"
cloud = "https://api.atlassian.com/ex/jira/11111111-1111-4111-8111-111111111111"
server = Jira(url="https://jira.acme.example/jira", token=known["server"])
server_wiki = Confluence(url="https://wiki.acme.example/confluence", token=known["server_wiki"], cloud=False)
print(json.dumps({
    "site": of_jira(basic(Jira, SITE, known["jira"])),
    "gateway": attempt(lambda: Jira(url=cloud, token=known["gateway"], cloud=True).myself()["accountId"]),
    "server": {
        "user": attempt(lambda: server.myself()["name"]),
        "projects": attempt(lambda: len(server.projects())),
        "issues": attempt(lambda: len(server.jql("updated >= -30d", fields="updated")["issues"])),
    },
    "wiki": of_wiki(basic(Confluence, SITE + "/wiki", known["wiki"])),
    "server_wiki": attempt(lambda: len(server_wiki.get_all_spaces()["results"])),
}))
