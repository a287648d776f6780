"""Logs in to the sandbox as a service account, with Google's own clients, and reads an organization and BigQuery. Prints one JSON
object.

    google_check.py CREDENTIALS

CREDENTIALS is credentials.json of the sandbox. HTTPS_PROXY and REQUESTS_CA_BUNDLE lead to the sandbox.
"""

import json
import sys

from google.auth.exceptions import RefreshError
from google.auth.transport.requests import AuthorizedSession, Request
from google.oauth2 import credentials as static
from google.oauth2 import service_account
from googleapiclient.discovery import build_from_document
from googleapiclient.discovery_cache import get_static_doc
from googleapiclient.errors import HttpError

SCOPES = ["https://www.googleapis.com/auth/cloud-platform.read-only"]
clients = json.load(open(sys.argv[1]))


class Transport:
    """What google-api-python-client expects of httplib2, over requests, which knows the sandbox's authority."""

    def __init__(self, session):
        self.session = session

    def request(self, uri, method="GET", body=None, headers=None, **_):
        answer = self.session.request(method, uri, data=body, headers=headers, timeout=30)
        headers = {name.lower(): value for name, value in answer.headers.items()}
        reply = type("Response", (dict,), {"status": answer.status_code, "reason": answer.reason})(headers)
        return reply, answer.content


def account(family, scopes=SCOPES):
    client = clients[family]["service_account"]
    info = {
        "type": "service_account",
        "client_email": client["client_id"],
        "private_key": client["private_key"],
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    return service_account.Credentials.from_service_account_info(info, scopes=scopes)


def service(name, version, credentials):
    return build_from_document(get_static_doc(name, version), http=Transport(AuthorizedSession(credentials)))


def token(family, name):
    return static.Credentials(clients[family][name]["value"])


def refused(call):
    try:
        call()
    except HttpError as error:
        details = error.error_details
        return [error.resp.status, details[0]["reason"] if isinstance(details, list) else str(details)]
    except RefreshError as error:
        return str(error)
    return None


def pages(resource, key, **arguments):
    request, counts = resource.list(**arguments) if hasattr(resource, "list") else resource.search(**arguments), []
    while request is not None:
        answer = request.execute()
        counts.append(len(answer.get(key, [])))
        request = resource.list_next(request, answer)
    return counts


cloud = service("cloudresourcemanager", "v3", account("gcp_org"))
organization = "organizations/433637338589"
asked = ["resourcemanager.organizations.get", "resourcemanager.organizations.setIamPolicy"]
search, found = cloud.projects().search(query=f"parent:{organization}", pageSize=5), []
while search is not None:
    answer = search.execute()
    found.append(len(answer["projects"]))
    search = cloud.projects().search_next(search, answer)
viewer = service("cloudresourcemanager", "v3", token("gcp_org", "viewer"))
bigquery = service("bigquery", "v2", account("bigquery"))
analyst = service("bigquery", "v2", token("bigquery", "analyst"))
dataset = {"projectId": "acme-data", "datasetId": "sales"}
table = bigquery.tables().get(tableId="orders", view="BASIC", **dataset).execute()
print(
    json.dumps(
        {
            "organization": cloud.organizations().get(name=organization).execute()["displayName"],
            "by_domain": cloud.organizations().search(query="domain:acme.example").execute()["organizations"][0]["name"],
            "by_other_domain": cloud.organizations().search(query="domain:other.example").execute(),
            "permissions": cloud.organizations()
            .testIamPermissions(resource=organization, body={"permissions": asked})
            .execute()["permissions"],
            "folders": pages(cloud.folders(), "folders", parent=organization, pageSize=3),
            "projects": found,
            "projects_of_a_viewer": viewer.projects().search().execute(),
            "folders_of_a_viewer": refused(lambda: viewer.folders().list(parent=organization).execute()),
            "other_organization": refused(lambda: cloud.organizations().get(name="organizations/1").execute()),
            "deletion": refused(lambda: account("gcp_org", ["https://www.googleapis.com/auth/drive"]).refresh(Request())),
            "dataset": bigquery.datasets().get(datasetView="METADATA", **dataset).execute()["location"],
            "access": bigquery.datasets().get(**dataset).execute()["access"] != [],
            "datasets": pages(bigquery.datasets(), "datasets", projectId="acme-data", maxResults=3),
            "tables": pages(bigquery.tables(), "tables", maxResults=3, **dataset),
            "columns": [field["name"] for field in table["schema"]["fields"]],
            "rows": len(analyst.tabledata().list(tableId="orders", maxResults=5, **dataset).execute()["rows"]),
            "rows_of_a_view": refused(lambda: analyst.tabledata().list(tableId="orders_by_day", **dataset).execute()),
            "rows_without_a_role": refused(lambda: bigquery.tabledata().list(tableId="orders", **dataset).execute()),
            "unknown_dataset": refused(lambda: bigquery.datasets().get(projectId="acme-data", datasetId="nowhere").execute()),
        }
    )
)
