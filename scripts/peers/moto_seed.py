"""Fills a new moto server with data, turns on its verification, and writes the generated keys to ENV_FILE.

usage: moto_seed.py ENDPOINT ENV_FILE
"""

import base64
import http.client
import json
import os
import sys
import time
import urllib.request
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

LANDING = "aam-landing"
# Tables as CSV files, for connectors that read the content of objects.
TABLES = "aam-tables"
# moto verifies keys only after the seed is in, so any key works here.
ANY = {"aws_access_key_id": "seed", "aws_secret_access_key": "seed"}


def wait_for(endpoint, seconds=30):
    """Waits until the server answers, which takes some seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return urllib.request.urlopen(endpoint + "/moto-api/", timeout=2)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def put_unsigned(path):
    """Creates an empty object without a signature, which moto does not verify yet and which takes half of the time."""
    call = http.client.HTTPConnection(urlsplit(sys.argv[1]).netloc, timeout=10)
    call.request("PUT", "/" + path, headers={"Content-Length": "0"})
    if call.getresponse().status != 200:
        raise SystemExit(f"moto did not accept {path}")
    call.close()


def buckets(s3):
    """Creates buckets like those of a company: with folders, empty, with dots in the name, in another region."""
    keys = [f"orders/2026/{month:02}.csv" for month in range(1, 13)]
    keys += [f"events/{day:02}/part 0+{day}.json" for day in range(1, 16)]
    keys += ["räume/a&b <c>.txt", "README.txt", "manifest.json"]
    s3.create_bucket(Bucket=LANDING)
    for key in keys:
        s3.put_object(Bucket=LANDING, Key=key, Body=key.encode())
    s3.create_bucket(Bucket="empty-bucket")
    s3.create_bucket(Bucket="dotted.bucket.name")
    s3.put_object(Bucket="dotted.bucket.name", Key="one.txt", Body=b"1")
    s3.create_bucket(Bucket="aam-frankfurt", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket="aam-frankfurt", Key="ein.txt", Body=b"1")
    s3.create_bucket(Bucket=TABLES)
    for month in range(1, 4):
        rows = "".join(f"{month}{row:02},item {row}\n" for row in range(10))
        s3.put_object(Bucket=TABLES, Key=f"sales/{month:02}.csv", Body=f"id,name\n{rows}".encode())
    # More than one page of folders, so that a continuation token is signed.
    s3.create_bucket(Bucket="many-folders")
    for number in range(1100):
        put_unsigned(f"many-folders/f{number:05}/x")


# moto requires this permission for HEAD. At Amazon it does not exist, because s3:ListBucket includes HEAD.
MOTO_ONLY = ["s3:HeadBucket"]


def may_list(names, more=()):
    """The policy with the least privilege that AAM needs, for the buckets `names`."""
    arns = [f"arn:aws:s3:::{bucket}" for bucket in names]
    statement = {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetBucketLocation", *more], "Resource": arns}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def user(iam, name, names, more=()):
    """Creates a user that may list the buckets `names`; returns its key."""
    iam.create_user(UserName=name)
    if names:
        iam.put_user_policy(UserName=name, PolicyName="list", PolicyDocument=may_list(names, more))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


def session(iam, sts, names):
    """Creates a role that may list the buckets `names`; returns temporary keys of it."""
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}}]}
    role = iam.create_role(RoleName="reader", AssumeRolePolicyDocument=json.dumps(trust))["Role"]
    iam.put_role_policy(RoleName="reader", PolicyName="list", PolicyDocument=may_list(names))
    keys = sts.assume_role(RoleArn=role["Arn"], RoleSessionName="aam")["Credentials"]
    return keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"]


EXTERNAL_ID = "acme:42"
ISSUER = "oidc.example/id/ACME"
SUBJECT = "system:serviceaccount:aam:aam"


def allow(action, resource):
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": resource}]})


def trust(**statement):
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]})


def roles(iam):
    """Creates roles that may do everything with S3 and with an organization: one for the user `assumer` and an external id, one for a web identity."""
    user_arn = iam.get_user(UserName="assumer")["User"]["Arn"]
    account = user_arn.split(":")[4]
    iam.put_user_policy(UserName="assumer", PolicyName="assume", PolicyDocument=allow("sts:AssumeRole", f"arn:aws:iam::{account}:role/*"))
    condition = {"StringEquals": {"sts:ExternalId": EXTERNAL_ID}}
    document = trust(Action="sts:AssumeRole", Principal={"AWS": user_arn}, Condition=condition)
    role = iam.create_role(RoleName="writer", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    provider = iam.create_open_id_connect_provider(Url=f"https://{ISSUER}", ClientIDList=["sts.amazonaws.com"], ThumbprintList=["0" * 40])
    condition = {"StringEquals": {f"{ISSUER}:sub": SUBJECT, f"{ISSUER}:aud": "sts.amazonaws.com"}}
    document = trust(
        Action="sts:AssumeRoleWithWebIdentity", Principal={"Federated": provider["OpenIDConnectProviderArn"]}, Condition=condition
    )
    federated = iam.create_role(RoleName="federated", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    for name in ["writer", "federated"]:
        iam.put_role_policy(RoleName=name, PolicyName="everything", PolicyDocument=allow(["s3:*", "organizations:*"], "*"))
    return role, federated


def web_tokens(key_file):
    """Returns tokens of a web identity: a valid one, and ones with a wrong audience, a wrong subject and an end in the past.
    Writes the public key to `key_file`."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with open(key_file, "wb") as file:
        file.write(public)

    def token(**more):
        claims = {"iss": f"https://{ISSUER}", "sub": SUBJECT, "aud": "sts.amazonaws.com", "exp": int(time.time()) + 86400, **more}
        encode = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=").decode()
        head = encode(json.dumps({"alg": "RS256", "typ": "JWT"}).encode())
        signed = f"{head}.{encode(json.dumps(claims).encode())}"
        return f"{signed}.{encode(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    return {
        "WEB_TOKEN": token(),
        "WEB_TOKEN_AUDIENCE": token(aud="somebody-else"),
        "WEB_TOKEN_SUBJECT": token(sub="system:serviceaccount:aam:other"),
        "WEB_TOKEN_EXPIRED": token(exp=int(time.time()) - 60),
    }


def organization(client, iam):
    """Creates an organization with 26 accounts and 3 units below its root, and users that may read it and that may not list its
    accounts; returns its id, the id of the management account, and the keys."""
    organizations = client("organizations")
    found = organizations.create_organization(FeatureSet="ALL")["Organization"]
    root = organizations.list_roots()["Roots"][0]["Id"]
    for number in range(3):
        organizations.create_organizational_unit(ParentId=root, Name=f"unit {number}")
    for number in range(25):
        organizations.create_account(AccountName=f"account {number}", Email=f"account{number}@acme.example")
    keys = []
    for name, actions in [
        ("org-reader", [f"organizations:{action}" for action in ["DescribeOrganization", "ListRoots", "ListOrganizationalUnitsForParent", "ListAccounts"]]),
        ("org-narrow", ["organizations:DescribeOrganization"]),
    ]:
        keys.append(user(iam, name, []))
        iam.put_user_policy(UserName=name, PolicyName="read", PolicyDocument=allow(actions, "*"))
    return found["Id"], found["MasterAccountId"], *keys


def main(endpoint, env_file):
    wait_for(endpoint)
    client = lambda service: boto3.client(service, endpoint_url=endpoint, region_name="us-east-1", **ANY)
    buckets(client("s3"))
    iam = client("iam")
    everything = [LANDING, "empty-bucket", "dotted.bucket.name", "aam-frankfurt", "many-folders", "no-such-bucket"]
    names = {
        # The least privilege for one bucket. moto refuses HEAD for it, so AAM has to use the listing.
        "LISTER": user(iam, "lister", [LANDING]),
        # The same for every bucket of the seed and for one that does not exist.
        "AUDITOR": user(iam, "auditor", everything, MOTO_ONLY),
        "UNPRIVILEGED": user(iam, "unprivileged", []),
        # May list the tables and read what is in them.
        "READER": user(iam, "reader-of-tables", [TABLES, f"{TABLES}/*"], ["s3:GetObject", *MOTO_ONLY]),
        # May assume the role `writer`, and nothing else.
        "ASSUMER": user(iam, "assumer", []),
    }
    role, federated = roles(iam)
    org, management, names["ORG_READER"], names["ORG_NARROW"] = organization(client, iam)
    tokens = web_tokens(os.path.join(os.path.dirname(env_file), "web-identity.pem"))
    session_id, session_secret, session_token = session(iam, client("sts"), [LANDING])
    verify_from_now_on(endpoint)
    check_verification(client("s3"))
    lines = [f"ENDPOINT={endpoint}"]
    for name, (key_id, secret) in names.items():
        lines += [f"{name}_KEY_ID={key_id}", f"{name}_SECRET={secret}"]
    lines += [f"SESSION_KEY_ID={session_id}", f"SESSION_SECRET={session_secret}"]
    lines += [f"SESSION_TOKEN={session_token}"]
    lines += [f"ORG={org}", f"MANAGEMENT={management}"]
    lines += [f"ROLE={role}", f"EXTERNAL_ID={EXTERNAL_ID}", f"FEDERATED_ROLE={federated}"]
    lines += [f"{name}={token}" for name, token in tokens.items()]
    with open(env_file, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def verify_from_now_on(endpoint):
    """Sets the number of calls without verification to 0. moto does not read the 0 if it is sent as a form, which is the default of urllib."""
    request = urllib.request.Request(endpoint + "/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"}, method="POST")
    urllib.request.urlopen(request, timeout=10)


def check_verification(s3):
    """Checks that moto refuses an unknown key: a server that accepts any key would make the tests meaningless."""
    try:
        s3.list_objects_v2(Bucket=LANDING)
    except ClientError as error:
        if error.response["Error"]["Code"] == "InvalidAccessKeyId":
            return
        raise
    raise SystemExit("moto does not verify credentials")


main(*sys.argv[1:])
