#!/usr/bin/env bash
# Datadog without an organization: recorded answers, which Datadog's Python package ships (datadog-api-client, Apache-2.0), and
# that package as a caller of the sandbox of this project.
#   datadog.sh start DIR | stop DIR
#
# DIR/env: RECORDINGS (a JSON file with the recorded answers to reading calls, and all refusals), SANDBOX (the sandbox as an HTTP
# proxy), PLAIN (its api.datadoghq.com without TLS), CA (the file with its authority), PYTHON, SCRIPT.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/sandbox.pid" aam-sandbox
}

start() {
  local venv recordings
  mkdir -p "$dir"
  venv=$(venv datadog-api-client-2.62.0 'datadog-api-client==2.62.0' 'PyYAML==6.0.3')
  recordings=$venv/recordings
  (
    flock 9
    if [ ! -e "$recordings/.complete" ]; then
      rm -rf "$recordings"
      mkdir -p "$recordings"
      "$venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary :all: --dest "$recordings" 'datadog-api-client==2.62.0'
      "$venv/bin/python" - "$recordings" <<'PY'
import json, pathlib, re, sys, tarfile, yaml
folder = pathlib.Path(sys.argv[1])
archive = next(folder.glob("datadog*.tar.gz"))
loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
read = re.compile(rb"uri: https://[^/]+/api/(v1/(validate|monitor|dashboard|hosts)|v2/(current_user/application_keys|application_keys|permissions))[?\s]")
answers, count = [], 0
with tarfile.open(archive) as tar:
    for member in tar.getmembers():
        if "/cassettes/" not in member.name or not member.name.endswith(".yaml"):
            continue
        count += 1
        text = tar.extractfile(member).read()
        if not read.search(text) and b"code: 403" not in text and b"code: 429" not in text:
            continue
        for interaction in yaml.load(text, loader)["interactions"]:
            request, response = interaction["request"], interaction["response"]
            status = response["status"]["code"]
            if request["method"] == "GET" or status in (403, 429):
                headers = {key.lower(): value if isinstance(value, list) else [value] for key, value in response["headers"].items()}
                answers.append({
                    "recording": pathlib.Path(member.name).stem, "method": request["method"], "uri": request["uri"], "status": status,
                    "headers": headers, "body": response["body"]["string"],
                })
(folder / "answers.json").write_text(json.dumps({"count": count, "answers": answers}))
archive.unlink()
PY
      touch "$recordings/.complete"
    fi
  ) 9>"$venv.recordings.lock"
  installed
  sandbox "$dir" datadog --http api.datadoghq.com=127.0.0.1:0 || { stop; return 1; }
  {
    echo "RECORDINGS=$recordings/answers.json"
    echo "SANDBOX=http://$(sandbox_address "$dir" proxy)"
    echo "PLAIN=http://$(sandbox_address "$dir" http api.datadoghq.com)"
    echo "CA=$dir/state/ca.pem"
    echo "PYTHON=$venv/bin/python"
    echo "SCRIPT=$here/datadog_check.py"
  } >"$dir/env"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
