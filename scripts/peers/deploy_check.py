"""Checks the manifests in a folder beyond their schema: deploy_check.py FOLDER prints what is wrong, one line for each finding.

The kustomization lists every manifest that belongs to it and only files that exist; pods satisfy the profile "restricted" of the
Pod Security Standards and have a root file system that cannot be written; selectors match; and there is one writer.
"""

import pathlib
import sys

import yaml

# Manifests that are used by hand.
BY_HAND = {"secret.yaml", "restore.yaml"}


def pods(document):
    """The specs of the pods that a document makes."""
    if document["kind"] == "Pod":
        yield document["spec"]
    elif "template" in document.get("spec", {}):
        yield document["spec"]["template"]["spec"]


def restricted(spec):
    """What the profile "restricted", and this project, ask of a pod."""
    pod = spec.get("securityContext", {})
    yield pod.get("runAsNonRoot") is True, "runAsNonRoot"
    yield isinstance(pod.get("runAsUser"), int) and pod["runAsUser"] > 0, "runAsUser is a number that is not 0"
    yield pod.get("seccompProfile", {}).get("type") == "RuntimeDefault", "seccompProfile"
    yield spec.get("automountServiceAccountToken") is False, "automountServiceAccountToken"
    yield spec.get("enableServiceLinks") is False, "enableServiceLinks"
    yield not any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")), "no namespaces of the host"
    yield all(
        {"configMap", "secret", "persistentVolumeClaim", "emptyDir"} & volume.keys() for volume in spec.get("volumes", [])
    ), "kinds of volumes"
    for container in spec["containers"]:
        own = container.get("securityContext", {})
        yield own.get("allowPrivilegeEscalation") is False, "allowPrivilegeEscalation"
        yield own.get("readOnlyRootFilesystem") is True, "readOnlyRootFilesystem"
        yield own.get("capabilities") == {"drop": ["ALL"]}, "capabilities"
        yield not any("subPath" in mount for mount in container["volumeMounts"]), "no subPath, which never changes"
        names = {volume["name"] for volume in spec["volumes"]}
        yield all(mount["name"] in names for mount in container["volumeMounts"]), "mounts name volumes"


def findings(folder):
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    listed = set(kustomization["resources"])
    generated = [file for entry in kustomization["configMapGenerator"] for file in entry["files"]]
    for name in listed | set(generated):
        if not (folder / name).is_file():
            yield f"{name} is listed and does not exist"
    present = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"} - set(generated)
    for name in present ^ (listed | BY_HAND):
        yield f"{name} is in the folder or in the kustomization, and not in both"
    if kustomization["generatorOptions"] != {"disableNameSuffixHash": True}:
        yield "a change of an intent would restart the pod"
    documents = {}
    for name in sorted(present):
        for document in yaml.safe_load_all((folder / name).read_text()):
            documents[(document["kind"], document["metadata"]["name"])] = document
            for spec in pods(document):
                yield from (f"{name}: {rule}" for holds, rule in restricted(spec) if not holds)
    deployment = documents[("Deployment", "aam")]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    policy = documents[("NetworkPolicy", "aam")]["spec"]
    selectors = [deployment["selector"]["matchLabels"], documents[("Service", "aam")]["spec"]["selector"]]
    if any(selector != labels for selector in [*selectors, policy["podSelector"]["matchLabels"]]):
        yield "a selector does not match the labels of the pod"
    if deployment["replicas"] != 1 or deployment["strategy"] != {"type": "Recreate"}:
        yield "more than one process could write to the registry"
    if set(policy["policyTypes"]) != {"Ingress", "Egress"}:
        yield "the network policy leaves a direction open"
    container = deployment["template"]["spec"]["containers"][0]
    probes = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    if probes != {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}:
        yield f"probes: {probes}"


def main():
    found = list(findings(pathlib.Path(sys.argv[1])))
    print("\n".join(found))
    sys.exit(1 if found else 0)


main()
