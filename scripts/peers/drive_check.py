"""Logs in to the sandbox as a service account, with Google's own clients, and reads Drive. Prints one JSON object.

    drive_check.py CREDENTIALS SUBJECT

CREDENTIALS is credentials.json of the sandbox. HTTPS_PROXY and REQUESTS_CA_BUNDLE lead to the sandbox.
"""

import json
import sys

from google.auth.exceptions import RefreshError
from google.auth.transport.requests import AuthorizedSession, Request
from google.oauth2 import service_account
from googleapiclient.discovery import build_from_document
from googleapiclient.discovery_cache import get_static_doc
from googleapiclient.errors import HttpError

SCOPES = [
    "https://www.googleapis.com/auth/drive.metadata.readonly",
    "https://www.googleapis.com/auth/admin.directory.customer.readonly",
]

path, subject = sys.argv[1:]
client = json.load(open(path))["gworkspace_drive"]["service_account"]
info = {
    "type": "service_account",
    "client_email": client["client_id"],
    "private_key": client["private_key"],
    "token_uri": "https://oauth2.googleapis.com/token",
}


class Transport:
    """What google-api-python-client expects of httplib2, over requests, which knows the sandbox's authority."""

    def __init__(self, session):
        self.session = session

    def request(self, uri, method="GET", body=None, headers=None, **_):
        answer = self.session.request(method, uri, data=body, headers=headers, timeout=30)
        headers = {name.lower(): value for name, value in answer.headers.items()}
        reply = type("Response", (dict,), {"status": answer.status_code, "reason": answer.reason})(headers)
        return reply, answer.content


def service(name, version, credentials):
    return build_from_document(get_static_doc(name, version), http=Transport(AuthorizedSession(credentials)))


def refused(call):
    try:
        call()
    except HttpError as error:
        return [error.resp.status, error.error_details[0]["reason"]]
    except RefreshError as error:
        return str(error)
    return None


credentials = service_account.Credentials.from_service_account_info(info, scopes=SCOPES, subject=subject)
drive = service("drive", "v3", credentials)
everywhere = {"corpora": "allDrives", "supportsAllDrives": True, "includeItemsFromAllDrives": True}
pages, files = drive.files(), []
request = pages.list(pageSize=5, fields="nextPageToken,files(id,name)", **everywhere)
while request is not None:
    answer = request.execute()
    files.append(len(answer["files"]))
    request = pages.list_next(request, answer)
other_scope = credentials.with_scopes(["https://www.googleapis.com/auth/drive"])
directory = service("admin", "directory_v1", credentials)
print(
    json.dumps(
        {
            "email": drive.about().get(fields="user(emailAddress)").execute()["user"]["emailAddress"],
            "pages": files,
            "own_files": len(pages.list(fields="files(id)").execute()["files"]),
            "customer": directory.customers().get(customerKey="my_customer").execute()["id"],
            "without_fields": refused(lambda: drive.about().get().execute()),
            "drives": refused(lambda: drive.drives().list().execute()),
            "unknown_file": refused(lambda: pages.get(fileId="1unknown", supportsAllDrives=True).execute()),
            "other_scope": refused(lambda: other_scope.refresh(Request())),
        }
    )
)
