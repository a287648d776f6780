#!/usr/bin/env bash
# Okta without an organization: recorded answers, which Okta's Python package ships; and prism with Okta's own API description
# (package @okta/openapi) before the sandbox of this project.
#   okta.sh start DIR | stop DIR
#
# DIR/env: RECORDINGS (the folder with one file for each recording of DPoP), ANSWERS (a JSON file with the recorded answers to
# reading calls, and all refusals), CHECKED (prism before the sandbox).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/checked.pid" prism
  end "$dir/sandbox.pid" aam-sandbox
}

# checked MODULES: starts prism before the sandbox and waits until it answers.
checked() {
  node "$here/okta_slice.js" "$1/@okta/openapi/dist/spec.json" "$dir/slice.json" /api/v1/org /api/v1/users /api/v1/groups \
    /api/v1/apps '/api/v1/meta/schemas/user/{schemaId}' '/api/v1/users/{userId}' '/api/v1/users/{userId}/roles'
  prism "$dir" checked proxy "$dir/slice.json" "http://$(sandbox_address "$dir" http acme.okta.com)" --errors || { stop; return 1; }
}

start() {
  local venv recordings modules
  mkdir -p "$dir"
  modules=$(npm_modules okta-openapi-2.15.0 @okta/openapi@2.15.0)
  venv=$(venv okta-3.4.6-recordings 'PyYAML==6.0.3')
  recordings=$venv/recordings
  (
    flock 9
    if [ ! -e "$recordings/.complete-2" ]; then
      rm -rf "$recordings"
      mkdir -p "$recordings"
      "$venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary :all: --dest "$recordings" 'okta==3.4.6'
      "$venv/bin/python" - "$recordings" <<'PY'
import json, pathlib, re, sys, tarfile, yaml
folder = pathlib.Path(sys.argv[1])
archive = next(folder.glob("okta-*.tar.gz"))
loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
read = re.compile(r"https://[^/]+/api/v1/(org|users|groups|apps|meta/schemas/[a-z]+/default|users/[^/]+/roles)(\?.*)?$")
answers = []
with tarfile.open(archive) as tar:
    for member in tar.getmembers():
        if "/cassettes/" not in member.name or not member.name.endswith(".yaml"):
            continue
        recording = yaml.load(tar.extractfile(member), loader)
        name = pathlib.Path(member.name).stem.split(".")[-1]
        if "/cassettes/test_dpop_it/" in member.name:
            (folder / f"{name}.json").write_text(json.dumps(recording["interactions"]))
        for interaction in recording["interactions"]:
            request, response = interaction["request"], interaction["response"]
            status = response["status"]["code"]
            if status in (401, 403, 429) or request["method"] == "GET" and read.match(request["uri"]):
                headers = {key.lower(): value if isinstance(value, list) else [value] for key, value in response["headers"].items()}
                headers = {key: value for key, value in headers.items() if key in ("link", "content-type", "retry-after", "www-authenticate") or key.startswith("x-rate")}
                body = response["body"]["string"]
                answers.append({"recording": name, "method": request["method"], "uri": request["uri"], "status": status, "headers": headers, "body": body})
(folder / "answers.json").write_text(json.dumps(answers))
archive.unlink()
PY
      touch "$recordings/.complete-2"
    fi
  ) 9>"$venv.recordings.lock"
  installed
  sandbox "$dir" okta --http acme.okta.com=127.0.0.1:0 || { stop; return 1; }
  {
    echo "RECORDINGS=$recordings"
    echo "ANSWERS=$recordings/answers.json"
  } >"$dir/env"
  checked "$modules"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
