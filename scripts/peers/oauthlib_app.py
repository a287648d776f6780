"""A service with token-based authentication like that of NetSuite, verified by oauthlib: OAuth 1.0a with HMAC-SHA256, the
account as realm, and each nonce once. Its paths below /services/rest answer as NetSuite documents.

Reads PORT, ACCOUNT, CONSUMER_KEY, CONSUMER_SECRET, TOKEN_ID and TOKEN_SECRET from the environment. Each accepted
header is given to the verifier a second time, which must refuse it. GET /counts returns how often each of this happened.
"""

import json
import os
from wsgiref.simple_server import WSGIRequestHandler, make_server

from oauthlib.oauth1 import SIGNATURE_HMAC_SHA256, RequestValidator, ResourceEndpoint
from oauthlib.oauth1.rfc5849.errors import OAuth1Error
from oauthlib.oauth1.rfc5849.utils import parse_authorization_header

ENV = {name: os.environ[name] for name in ("ACCOUNT", "CONSUMER_KEY", "CONSUMER_SECRET", "TOKEN_ID", "TOKEN_SECRET")}
BASE = f"http://127.0.0.1:{os.environ['PORT']}"
counts = {"accepted": 0, "refused": 0, "replays_refused": 0}


class Validator(RequestValidator):
    allowed_signature_methods = (SIGNATURE_HMAC_SHA256,)
    enforce_ssl = False
    timestamp_lifetime = 300
    client_key_length = (20, 64)
    access_token_length = (20, 64)
    nonce_length = (6, 64)
    dummy_client = "dummy-client"
    dummy_access_token = "dummy-access-token"
    used = set()

    def validate_client_key(self, client_key, request):
        return client_key == ENV["CONSUMER_KEY"]

    def validate_access_token(self, client_key, token, request):
        return token == ENV["TOKEN_ID"]

    def get_client_secret(self, client_key, request):
        return ENV["CONSUMER_SECRET"]

    def get_access_token_secret(self, client_key, token, request):
        return ENV["TOKEN_SECRET"]

    def validate_timestamp_and_nonce(self, client_key, timestamp, nonce, request, request_token=None, access_token=None):
        key = (client_key, timestamp, nonce, access_token)
        if key in self.used:
            return False
        self.used.add(key)
        return True

    def validate_realms(self, client_key, token, request, uri=None, realms=None):
        sent = dict(parse_authorization_header(request.headers["Authorization"]))
        return sent.get("realm") == ENV["ACCOUNT"]


endpoint = ResourceEndpoint(Validator())

DESCRIPTION = {
    "openapi": "3.0.3",
    "info": {"title": "Record service", "version": "2026.2"},
    "servers": [{"url": BASE}],
    "security": [{"tba": []}],
    "components": {"securitySchemes": {"tba": {"type": "http", "scheme": "OAuth"}}},
    "paths": {
        "/record/v1/customer": {
            "get": {
                "operationId": "listCustomers",
                "parameters": [
                    {"name": "limit", "in": "query", "schema": {"type": "integer"}},
                    {"name": "q", "in": "query", "required": True, "schema": {"type": "string"}, "example": "name IS \"a b\" & é"},
                ],
                "responses": {
                    "200": {
                        "description": "customers",
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": "object",
                                    "properties": {
                                        "items": {
                                            "type": "array",
                                            "items": {"type": "object", "properties": {"id": {"type": "string"}}},
                                        },
                                        "hasMore": {"type": "boolean"},
                                    },
                                }
                            }
                        },
                    }
                },
            }
        }
    },
}


RECORDS = ["account", "customer", "invoice"]


def links(path, kind="self"):
    return [{"rel": kind, "href": f"{BASE}{path}"}]


def rest(method, path, query, body, headers):
    """What NetSuite's REST web services answer, or None. [V docs.oracle.com, NetSuite online help, "Getting Metadata", "Executing
    SuiteQL Queries Through REST Web Services", "Listing All Record Instances"]"""
    below = "/services/rest/"
    if method == "POST" and path == f"{below}query/v1/suiteql":
        if headers["Prefer"] != "transient" or not str(json.loads(body or "{}").get("q", "")).startswith("SELECT "):
            return None
        items = [{"links": [], "ok": "1"}]
        return {"links": links(path), "count": 1, "hasMore": False, "items": items, "offset": 0, "totalResults": 1}
    if method != "GET":
        return None
    catalog = f"{below}record/v1/metadata-catalog"
    if path == catalog:
        return {"items": [{"name": name, "links": links(f"{catalog}/{name}", "canonical")} for name in RECORDS]}
    name = path.rpartition("/")[2]
    if name not in RECORDS:
        return None
    if path == f"{catalog}/{name}" and headers["Accept"] == "application/schema+json":
        return {"type": "object", "properties": {"id": {"type": "string"}, "lastModifiedDate": {"type": "string", "format": "date-time"}}}
    if path == f"{below}record/v1/{name}" and query == "limit=20":
        items = [{"links": links(f"{path}/{n}"), "id": str(n)} for n in range(1, 4)]
        return {"links": links(path), "count": 3, "hasMore": False, "items": items, "offset": 0, "totalResults": 3}
    return None


def verified(uri, method, headers):
    """A request without an OAuth header makes the verifier raise, which is a refusal."""
    try:
        return endpoint.validate_protected_resource_request(uri, method, "", headers, realms=[])[0]
    except (OAuth1Error, ValueError):
        return False


def application(environ, start_response):
    def reply(status, value, *headers):
        start_response(status, [("Content-Type", "application/json"), *headers])
        return [json.dumps(value).encode()]

    path, query = environ["PATH_INFO"], environ.get("QUERY_STRING", "")
    if path == "/openapi.json":
        return reply("200 OK", DESCRIPTION)
    if path == "/counts":
        return reply("200 OK", counts)
    uri = f"{BASE}{path}" + (f"?{query}" if query else "")
    headers = {"Authorization": environ.get("HTTP_AUTHORIZATION", "")}
    valid = verified(uri, environ["REQUEST_METHOD"], headers)
    if not valid:
        counts["refused"] += 1
        challenge = f'OAuth realm="{ENV["ACCOUNT"]}", error="token_rejected", error_description="Invalid login attempt."'
        return reply(
            "401 Unauthorized",
            {"title": "Unauthorized", "status": 401, "o:errorDetails": [{"o:errorCode": "INVALID_LOGIN"}]},
            ("WWW-Authenticate", challenge),
        )
    counts["accepted"] += 1
    # The same header again: the nonce was used, so the verifier must refuse it.
    counts["replays_refused"] += not verified(uri, environ["REQUEST_METHOD"], headers)
    length = int(environ.get("CONTENT_LENGTH") or 0)
    sent = {"Prefer": environ.get("HTTP_PREFER", ""), "Accept": environ.get("HTTP_ACCEPT", "")}
    answer = rest(environ["REQUEST_METHOD"], path, query, environ["wsgi.input"].read(length), sent)
    if answer is not None:
        return reply("200 OK", answer)
    if path == "/record/v1/customer" and environ["REQUEST_METHOD"] == "GET":
        return reply("200 OK", {"items": [{"id": "1"}, {"id": "2"}], "hasMore": False})
    return reply("404 Not Found", {"title": "Not Found"})


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


make_server("127.0.0.1", int(os.environ["PORT"]), application, handler_class=Quiet).serve_forever()
