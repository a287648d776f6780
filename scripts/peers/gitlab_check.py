"""The package python-gitlab as a caller of the sandbox: gitlab_check.py TOKEN GROUP PROJECT

Reads a group, its projects and subgroups page by page, a project with its labels, and the token itself; prints what it got.
"""
import json, sys

import gitlab

token, group, project = sys.argv[1:]
client = gitlab.Gitlab("https://gitlab.com", private_token=token)


def attempt(read):
    try:
        return read()
    except gitlab.GitlabError as error:
        return {"error": error.response_code, "message": str(error.error_message)}


def of_group():
    found = client.groups.get(group)
    return {
        "full_path": found.full_path,
        "projects": [one.path_with_namespace for one in found.projects.list(per_page=5, iterator=True)],
        "subgroups": [one.full_path for one in found.subgroups.list(per_page=5, iterator=True)],
    }


def of_project():
    found = client.projects.get(project)
    return {"path": found.path_with_namespace, "labels": [one.name for one in found.labels.list(per_page=5, iterator=True)]}


print(json.dumps({
    "group": attempt(of_group),
    "project": attempt(of_project),
    "scopes": attempt(lambda: client.personal_access_tokens.get("self").scopes),
}))
