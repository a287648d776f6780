"""Datadog's own client as a caller of the sandbox: datadog_check.py SITE API_KEY APPLICATION_KEY

Reads the organization, both keys, the application keys, monitors page by page, dashboards and hosts; prints what it got of each, or
how it was refused. The client deserializes each answer into its models and refuses what does not fit.
"""
import json, os, sys

from datadog_api_client import ApiClient, Configuration
from datadog_api_client.exceptions import ApiException
from datadog_api_client.v1.api.authentication_api import AuthenticationApi
from datadog_api_client.v1.api.dashboards_api import DashboardsApi
from datadog_api_client.v1.api.hosts_api import HostsApi
from datadog_api_client.v1.api.monitors_api import MonitorsApi
from datadog_api_client.v2.api.key_management_api import KeyManagementApi
from datadog_api_client.v2.api.users_api import UsersApi

site, api_key, application_key = sys.argv[1:]
configuration = Configuration(api_key={"apiKeyAuth": api_key, "appKeyAuth": application_key})
configuration.server_variables["site"] = site
configuration.proxy = os.environ["HTTPS_PROXY"]
configuration.ssl_ca_cert = os.environ["REQUESTS_CA_BUNDLE"]
# The client asks its caller to allow operations that Datadog may still change.
configuration.unstable_operations["validate"] = True
client = ApiClient(configuration)


def attempt(read):
    try:
        return read()
    except ApiException as error:
        return {"status": error.status, "body": str(error.body)}


def application_keys():
    keys = KeyManagementApi(client).list_application_keys(page_size=100)
    return [{"last4": key.attributes.last4, "scopes": key.attributes.get("scopes")} for key in keys.data]


print(json.dumps({
    "valid": attempt(lambda: AuthenticationApi(client).validate().valid),
    "organization": attempt(lambda: KeyManagementApi(client).validate().data.id),
    "both_keys": attempt(lambda: str(KeyManagementApi(client).validate_api_key().status)),
    "user": attempt(lambda: UsersApi(client).get_current_user().data.relationships.org.data.id),
    "application_keys": attempt(application_keys),
    "monitors": attempt(lambda: [one.name for one in MonitorsApi(client).list_monitors_with_pagination(page_size=5)]),
    "dashboards": attempt(lambda: [one.title for one in DashboardsApi(client).list_dashboards_with_pagination(count=5)]),
    "hosts": attempt(lambda: [one.name for one in HostsApi(client).list_hosts(count=20).host_list]),
}, default=str))
