"""moto's server with two rules of AWS that moto does not have. Takes the arguments of moto_server.

- A session policy limits its session (IAM User Guide, "Session policies"). moto stores the policy and does not use it. It is
  evaluated here with moto's own evaluation of policies.
- AssumeRoleWithWebIdentity is not signed by AWS keys, and the token decides. moto answers 500 in auth mode, and verifies no
  token otherwise. Here the signature (RS256, with the key in the file that MOTO_WEB_IDENTITY_KEY names), the end, the
  identity provider, its audiences and the trust policy are verified.

What moto checks itself: signatures, the policies of users and roles, the principal of a trust policy, and an external id that
is sent. It does not notice that an external id is missing, accepts session policies of any length, and never lets a session
expire.
"""

import base64
import json
import os
import sys
import time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from moto import settings
from moto.core.authorization import ActionAuthenticatorMixin
from moto.core.exceptions import _RESTError
from moto.iam.access_control import IAMPolicy, IAMRequestBase, PermissionResult
from moto.iam.models import iam_backends
from moto.server import main
from moto.sts.models import sts_backends
from moto.utilities.utils import get_partition


def session_policy(request):
    """The session policy of the session that signed the request, or None."""
    backend = sts_backends[request.account_id][get_partition(request._region)]
    key = getattr(request._access_key, "_access_key_id", None)
    return next((role.policy for role in backend.assumed_roles if role.access_key_id == key), None)


def check_session_policy(checked):
    def check(self, resource):
        checked(self, resource)
        policy = session_policy(self)
        if policy and self._action != "sts:GetCallerIdentity":
            if IAMPolicy(policy).is_action_permitted(self._action, resource) != PermissionResult.PERMITTED:
                self._raise_access_denied()

    return check


class Refused(_RESTError):
    def __init__(self, code, message, status):
        super().__init__(code, message)
        self.code = status


def decoded(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def verify_web_identity(request):
    """Verifies the token as AWS documents it, and the trust policy of the role."""
    invalid = lambda message: Refused("InvalidIdentityToken", message, 400)
    field = lambda name: (request.querystring.get(name) or [""])[0]
    try:
        head, body, signature = field("WebIdentityToken").split(".")
        header, claims = json.loads(decoded(head)), json.loads(decoded(body))
    except ValueError:
        raise invalid("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)") from None
    account, name = field("RoleArn").split(":")[4], field("RoleArn").rsplit("/", 1)[-1]
    backend = iam_backends[account]["aws"]
    issuer = claims.get("iss", "").removeprefix("https://")
    provider_arn = f"arn:aws:iam::{account}:oidc-provider/{issuer}"
    provider = next((known for known in backend.open_id_providers.values() if known.arn == provider_arn), None)
    if provider is None:
        raise invalid(f"No OpenIDConnect provider found in your account for https://{issuer}")
    with open(os.environ["MOTO_WEB_IDENTITY_KEY"], "rb") as file:
        key = serialization.load_pem_public_key(file.read())
    try:
        if header.get("alg") != "RS256":
            raise InvalidSignature
        key.verify(decoded(signature), f"{head}.{body}".encode(), padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        raise invalid("Couldn't verify the signature of the token") from None
    if claims.get("exp", 0) < time.time():
        raise Refused("ExpiredTokenException", f"Token expired: current date/time {int(time.time())} must be before the expiration date/time {claims.get('exp')}", 400)
    if claims.get("aud") not in provider.client_id_list:
        raise invalid("Incorrect token audience")
    denied = Refused("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", 403)
    role = next((role for role in backend.roles.values() if role.name == name), None)
    if role is None:
        raise denied
    for statement in json.loads(role.assume_role_policy_document)["Statement"]:
        conditions = statement.get("Condition", {}).get("StringEquals", {})
        fits = all(claims.get(key.rsplit(":", 1)[-1]) == value for key, value in conditions.items())
        trusted = statement.get("Principal", {}).get("Federated") == provider_arn
        if trusted and fits and statement.get("Action") == "sts:AssumeRoleWithWebIdentity":
            return
    raise denied


def authorize(authorized):
    def check(self, request_class, resource="*"):
        verifies = ActionAuthenticatorMixin.request_count >= settings.INITIAL_NO_AUTH_ACTION_COUNT
        if verifies and self.__class__.__module__ == "moto.sts.responses" and "AssumeRoleWithWebIdentity" in self.querystring.get("Action", []):
            return verify_web_identity(self)
        return authorized(self, request_class, resource)

    return check


IAMRequestBase.check_action_permitted = check_session_policy(IAMRequestBase.check_action_permitted)
ActionAuthenticatorMixin._authenticate_and_authorize_action = authorize(ActionAuthenticatorMixin._authenticate_and_authorize_action)
sys.exit(main())
