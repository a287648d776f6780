#!/usr/bin/env bash
# Salesforce without an organization: recorded answers, which the package cumulusci (BSD-3-Clause) ships, and the sandbox of this
# project with the client simple-salesforce (Apache-2.0) as its judge.
#   salesforce.sh start DIR | stop DIR
#
# DIR/env: RECORDINGS (a JSON file with the recorded calls), SANDBOX (the sandbox as an HTTP proxy), CA (the file with its
# authority), PYTHON (an environment with simple-salesforce).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/sandbox.pid" aam-sandbox
}

# record: converts the recorded calls to Salesforce into one JSON file.
record() {
  "$venv/bin/python" - "$1" "$2" <<'PY'
import json, pathlib, sys, yaml, zipfile

class Loader(yaml.SafeLoader):
    pass

# Some interactions include the text of another file.
Loader.add_multi_constructor("!", lambda loader, suffix, node: None)
archive, out = sys.argv[1:]
calls = []
with zipfile.ZipFile(archive) as wheel:
    for name in sorted(wheel.namelist()):
        if "/cassettes/" not in name and "/shared_cassettes/" not in name or not name.endswith(".yaml"):
            continue
        whole = yaml.load(wheel.read(name), Loader)
        for interaction in whole.get("interactions") or [whole]:
            request, response = interaction.get("request"), interaction.get("response")
            if request and response and request["method"] == "GET" and ".my.salesforce.com/services/data/" in request["uri"]:
                body = response["body"]["string"]
                status = response["status"]["code"]
                calls.append({"recording": pathlib.Path(name).stem, "uri": request["uri"], "status": status, "body": body})
pathlib.Path(out).write_text(json.dumps(calls))
PY
}

start() {
  local venv recordings
  mkdir -p "$dir"
  venv=$(venv salesforce-1 'PyYAML==6.0.3' 'simple-salesforce==1.12.10')
  recordings=$venv/recordings.json
  (
    flock 9
    if [ ! -e "$recordings" ]; then
      "$venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$dir/wheel" 'cumulusci==4.10.1'
      record "$dir"/wheel/cumulusci-*.whl "$recordings.part"
      mv "$recordings.part" "$recordings"
      rm -rf "$dir/wheel"
    fi
  ) 9>"$venv.recordings.lock"
  installed
  sandbox "$dir" salesforce || { stop; return 1; }
  {
    echo "RECORDINGS=$recordings"
    echo "SANDBOX=$(sandbox_address "$dir" proxy)"
    echo "CA=$dir/state/ca.pem"
    echo "PYTHON=$venv/bin/python"
  } >"$dir/env"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
