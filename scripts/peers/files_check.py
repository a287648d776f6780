"""Box's and Dropbox's own clients as callers of the sandbox: files_check.py box CREDENTIALS NAME | files_check.py dropbox TOKEN [MEMBER]

NAME is `jwt`, `ccg`, `ccg_wrong_secret`, `jwt_wrong_enterprise`, `jwt_wrong_key`, or an access token. Prints what the client read, or
how it was refused.
"""
import json, os, sys

kind, *arguments = sys.argv[1:]


def of_box(credentials, name):
    from box_sdk_gen import BoxAPIError, BoxCCGAuth, BoxClient, BoxDeveloperTokenAuth, BoxJWTAuth, CCGConfig, JWTConfig
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, load_pem_private_key
    from box_sdk_gen.networking.network import NetworkSession
    from box_sdk_gen.networking.proxy_config import ProxyConfig
    from box_sdk_gen.networking.retries import BoxRetryStrategy

    known = json.load(open(credentials))["box"]
    if name.startswith("jwt"):
        app = known["jwt_app"]
        key = load_pem_private_key((known["stranger"] if name == "jwt_wrong_key" else app)["private_key"].encode(), None)
        # Box gives the key encrypted, and its client takes no other.
        key = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"of the app")).decode()
        settings = {
            "boxAppSettings": {
                "clientID": app["client_id"], "clientSecret": app["client_secret"],
                "appAuth": {"publicKeyID": "boxkey1", "privateKey": key, "passphrase": "of the app"},
            },
            "enterpriseID": "55555" if name == "jwt_wrong_enterprise" else "1234567",
        }
        auth = BoxJWTAuth(JWTConfig.from_config_json_string(json.dumps(settings)))
    elif name.startswith("ccg"):
        app = known["ccg_app"]
        secret = "not-the-secret" if name == "ccg_wrong_secret" else app["client_secret"]
        auth = BoxCCGAuth(CCGConfig(client_id=app["client_id"], client_secret=secret, enterprise_id="1234567"))
    else:
        auth = BoxDeveloperTokenAuth(name)
    session = NetworkSession(proxy_url=os.environ["HTTPS_PROXY"], retry_strategy=BoxRetryStrategy(max_attempts=0))
    client = BoxClient(auth=auth, network_session=session)
    try:
        user = client.users.get_user_me(fields=["login", "enterprise", "hostname"])
        items, marker, pages = [], None, 0
        while True:
            page = client.folders.get_folder_items("0", fields=["name", "modified_at"], usemarker=True, marker=marker, limit=5)
            items += [item.name for item in page.entries]
            marker, pages = page.next_marker, pages + 1
            if not marker:
                break
        templates = client.metadata_templates.get_enterprise_metadata_templates(limit=5)
        return {
            "login": user.login, "enterprise": user.enterprise.id, "hostname": user.hostname, "items": items, "pages": pages,
            "templates": [template.template_key for template in templates.entries],
        }
    except BoxAPIError as error:
        info = error.response_info
        return {"status": info.status_code, "code": info.code, "body": info.body, "headers": dict(info.headers)}


def of_dropbox(token, member=None):
    import dropbox
    from dropbox import exceptions

    try:
        if member == "team":
            team = dropbox.DropboxTeam(token, max_retries_on_rate_limit=0, max_retries_on_error=0)
            info, found = team.team_get_info(), team.team_members_list_v2(limit=5)
            members = [one.profile.email for one in found.members]
            while found.has_more:
                found = team.team_members_list_continue_v2(found.cursor)
                members += [one.profile.email for one in found.members]
            return {"team": info.team_id, "members": members}
        if member:
            client = dropbox.DropboxTeam(token, max_retries_on_rate_limit=0, max_retries_on_error=0).as_user(member)
        else:
            client = dropbox.Dropbox(token, max_retries_on_rate_limit=0, max_retries_on_error=0)
        account = client.users_get_current_account()
        root = account.root_info.root_namespace_id
        client = client.with_path_root(dropbox.common.PathRoot.root(root))
        found = client.files_list_folder("", limit=5)
        names = [entry.name for entry in found.entries]
        while found.has_more:
            found = client.files_list_folder_continue(found.cursor)
            names += [entry.name for entry in found.entries]
        return {"account": account.account_id, "email": account.email, "root": root, "team": account.team and account.team.id, "names": names}
    except exceptions.DropboxException as error:
        return {"error": type(error).__name__, "text": str(error)}


print(json.dumps(of_box(*arguments) if kind == "box" else of_dropbox(*arguments), default=str))
