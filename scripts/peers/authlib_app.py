"""An authorization server whose only grant is Authlib's JWTBearerGrant, and a service that accepts its tokens.

Reads DIR and PORT from the environment, and writes DIR/env and the files that it names:

- URL: the service; GET /things needs a token as bearer. GET /issued returns how many tokens were issued.
- TOKEN_URL: the token endpoint, which is the only audience that is accepted. OTHER_TOKEN_URL is a second address of the
  same endpoint, so an assertion that is made for it has the wrong audience. The paths of Salesforce and Box accept the
  audiences of these vendors. The path of NetSuite takes client assertions with PS256 and the claims that NetSuite documents.
- ACCOUNT: the issuer of the assertions. USER: the only user for whom it may act.
- KEY_FILE: its key in the form of Google's key files. STRANGER_KEY_FILE: the same with a private key that the server does
  not know. UNKNOWN_KEY_FILE: a key of an account that the server does not know.
"""

import json
import os
import secrets

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin
from authlib.oauth2.rfc7523 import JWTBearerGrant
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from flask import Flask, jsonify, request
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from werkzeug.serving import WSGIRequestHandler

FOLDER = os.environ["DIR"]
PORT = int(os.environ["PORT"])
URL = f"http://127.0.0.1:{PORT}"
TOKEN_URL = f"{URL}/token"
ACCOUNT = "reader@acme.iam.example"
USER = "auditor@acme.example"

# The paths of vendors' token endpoints, and the audiences that their documentation demands.
VENDOR_AUDIENCES = {
    "/services/oauth2/token": "https://login.salesforce.com",
    "/oauth2/token": "https://api.box.com/oauth2/token",
}

NETSUITE_PATH = "/services/rest/auth/oauth2/v1/token"
NETSUITE_CLAIMS = jwt.JWTClaimsRegistry(
    leeway=30,
    iss={"essential": True, "value": ACCOUNT},
    aud={"essential": True, "value": f"{URL}{NETSUITE_PATH}"},
    scope={"essential": True, "value": "rest_webservices"},
    iat={"essential": True},
    exp={"essential": True},
)

tokens = set()


def private_key():
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


class Client(ClientMixin):
    def __init__(self, key):
        self.public_key = RSAKey.import_key(RSAKey.import_key(key).as_pem(private=False))

    def get_client_id(self):
        return ACCOUNT

    def get_allowed_scope(self, scope):
        return scope

    def check_grant_type(self, grant_type):
        return grant_type == JWTBearerGrant.GRANT_TYPE


class Grant(JWTBearerGrant):
    LEEWAY = 30

    def resolve_issuer_client(self, issuer):
        return CLIENT if issuer == ACCOUNT else None

    def resolve_client_public_key(self, client):
        return client.public_key

    def authenticate_user(self, subject):
        return subject if subject == USER else None

    def get_audiences(self):
        return [VENDOR_AUDIENCES.get(request.path, TOKEN_URL)]

    def has_granted_permission(self, client, user):
        return user == USER


KEY = private_key()
CLIENT = Client(KEY)
app = Flask(__name__)
server = AuthorizationServer(app, query_client=lambda _: None, save_token=lambda token, _: tokens.add(token["access_token"]))
server.register_grant(Grant)
server.register_token_generator(
    "default",
    lambda **_: {"access_token": secrets.token_urlsafe(32), "token_type": "Bearer", "expires_in": 3600},
)


@app.post("/token")
@app.post("/other/token")
@app.post("/services/oauth2/token")
@app.post("/oauth2/token")
def token():
    return server.create_token_response()


@app.post(NETSUITE_PATH)
def netsuite():
    form = request.form.to_dict()
    kind = form.pop("client_assertion_type", "")
    if kind != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" or form.pop("grant_type", "") != "client_credentials":
        return jsonify(error="invalid_request"), 400
    try:
        sent = jwt.decode(form.pop("client_assertion", ""), CLIENT.public_key, algorithms=["PS256"])
        NETSUITE_CLAIMS.validate(sent.claims)
    except (JoseError, ValueError):
        return jsonify(error="invalid_grant"), 400
    claims = sent.claims
    documented = {"iss", "scope", "aud", "exp", "iat"}
    if form or sent.header.get("kid") != "certificate-1" or sent.header.get("typ") != "JWT" or set(claims) != documented:
        return jsonify(error="invalid_request"), 400
    if not 0 < claims["exp"] - claims["iat"] < 3600:
        return jsonify(error="invalid_grant"), 400
    tokens.add(token := secrets.token_urlsafe(32))
    # The lifetime is a text [V docs.oracle.com, "POST Request to the Token Endpoint and the Access Token Response"].
    return jsonify(access_token=token, expires_in="3600", token_type="bearer")


@app.get("/things")
def things():
    scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer" or sent not in tokens:
        return jsonify(error="invalid_token"), 401, {"WWW-Authenticate": "Bearer"}
    return jsonify([{"id": 1}, {"id": 2}])


@app.get("/issued")
def issued():
    return jsonify(len(tokens))


@app.get("/openapi.json")
def description():
    schema = {"type": "array", "items": {"type": "object", "properties": {"id": {"type": "integer"}}}}
    answer = {"description": "all", "content": {"application/json": {"schema": schema}}}
    return jsonify(
        openapi="3.0.3",
        info={"title": "Things", "version": "1"},
        security=[{"token": []}],
        components={"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        paths={"/things": {"get": {"operationId": "listThings", "responses": {"200": answer}}}},
    )


def key_file(name, private, email):
    path = os.path.join(FOLDER, name.lower())
    document = {"type": "service_account", "client_email": email, "client_id": "1234567", "private_key_id": "key-1", "private_key": private}
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(document, file)
    return f"{name}={path}"


class QuietHandler(WSGIRequestHandler):
    def log_request(self, *_):
        pass


if __name__ == "__main__":
    lines = [
        f"URL={URL}",
        f"TOKEN_URL={TOKEN_URL}",
        f"OTHER_TOKEN_URL={URL}/other/token",
        f"ACCOUNT={ACCOUNT}",
        f"USER={USER}",
        key_file("KEY_FILE", KEY, ACCOUNT),
        key_file("STRANGER_KEY_FILE", private_key(), ACCOUNT),
        key_file("UNKNOWN_KEY_FILE", KEY, "stranger@acme.iam.example"),
    ]
    with open(os.path.join(FOLDER, "env"), "w") as file:
        file.write("".join(f"{line}\n" for line in lines))
    app.run("127.0.0.1", PORT, request_handler=QuietHandler)
