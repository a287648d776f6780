"""boto3 as a caller of the sandbox: boto3_check.py KEY_ID SECRET [SESSION_TOKEN]

Reads the caller, the organization with its root, units and accounts, and a database of Redshift; prints what it got, or the code
and the message of the error.
"""
import json, sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

key, secret, *session = sys.argv[1:]


def client(service, region="us-east-1"):
    once = Config(retries={"total_max_attempts": 1}, region_name=region)
    names = {"aws_access_key_id": key, "aws_secret_access_key": secret, "aws_session_token": session[0] if session else None}
    return boto3.client(service, config=once, **names)


def attempt(read):
    try:
        return read()
    except ClientError as error:
        found = error.response
        return {"error": found["Error"]["Code"], "message": found["Error"].get("Message"), "status": found["ResponseMetadata"]["HTTPStatusCode"]}


def pages(api, operation, field, **arguments):
    found = api.get_paginator(operation).paginate(**arguments)
    return [item for page in found for item in page[field]]


organizations = client("organizations")
data = client("redshift-data", "eu-central-1")
names = {"ClusterIdentifier": "analytics", "Database": "dev"}
actions = ["organizations:ListRoots", "organizations:CloseAccount"]


def simulated():
    arn = client("sts").get_caller_identity()["Arn"]
    found = client("iam").simulate_principal_policy(PolicySourceArn=arn, ActionNames=actions)["EvaluationResults"]
    return {result["EvalActionName"]: result["EvalDecision"] for result in found}


print(json.dumps({
    "caller": attempt(lambda: client("sts").get_caller_identity()["Arn"]),
    "simulated": attempt(simulated),
    "organization": attempt(lambda: organizations.describe_organization()["Organization"]),
    "roots": attempt(lambda: pages(organizations, "list_roots", "Roots")),
    "units": attempt(lambda: pages(organizations, "list_organizational_units_for_parent", "OrganizationalUnits", ParentId="r-abcd")),
    "accounts": attempt(lambda: pages(organizations, "list_accounts", "Accounts", MaxResults=5)),
    "databases": attempt(lambda: data.list_databases(**names)["Databases"]),
    "tables": attempt(lambda: pages(data, "list_tables", "Tables", **names)),
    "columns": attempt(lambda: data.describe_table(Schema="sales", Table="t01", **names)["ColumnList"]),
    "workgroup": attempt(lambda: data.list_databases(WorkgroupName="nosuch", Database="dev")["Databases"]),
}, default=str))
