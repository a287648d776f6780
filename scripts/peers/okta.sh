#!/usr/bin/env bash
# Okta without an organization: recorded answers, which Okta's Python package ships; and the sandbox of this project with two
# judges, that package and prism with Okta's own API description (package @okta/openapi).
#   okta.sh start DIR | stop DIR
#
# DIR/env: RECORDINGS (the folder with one file for each recording of DPoP), ANSWERS (a JSON file with the recorded answers to
# reading calls, and all refusals), SANDBOX (the sandbox as an HTTP proxy), CA, CREDENTIALS (its files), CHECKED (prism before the
# sandbox), PYTHON and SCRIPT (the package as a caller).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/checked.pid" prism
  end "$dir/sandbox.pid" aam-sandbox
}

# checked: starts prism before the sandbox and waits until it answers.
checked() {
  local port modules n=0
  port=$(free_port)
  modules=$(npm_modules prism-5.16.0 @stoplight/prism-cli@5.16.0 @octokit/openapi@23.0.2)
  description=$(npm_modules okta-openapi-2.15.0 @okta/openapi@2.15.0)
  node "$here/okta_slice.js" "$description/@okta/openapi/dist/spec.json" "$dir/slice.json" /api/v1/org /api/v1/users /api/v1/groups \
    /api/v1/apps '/api/v1/meta/schemas/user/{schemaId}' '/api/v1/users/{userId}' '/api/v1/users/{userId}/roles'
  setsid node "$modules/@stoplight/prism-cli/dist/index.js" proxy "$dir/slice.json" "http://$(address http acme.okta.com)" --errors \
    -h 127.0.0.1 -p "$port" >"$dir/checked.log" 2>&1 </dev/null &
  : >>"$dir/checked.log"
  echo $! >"$dir/checked.pid"
  while [ "$n" -lt 600 ]; do
    if grep -q "Prism is listening" "$dir/checked.log"; then
      echo "CHECKED=http://127.0.0.1:$port" >>"$dir/env"
      return 0
    fi
    kill -0 "$(cat "$dir/checked.pid")" 2>/dev/null || break
    n=$((n + 1))
    sleep 0.1
  done
  tail -n 20 "$dir/checked.log" >&2
  stop
  return 1
}

# address KEY...: prints a value of the sandbox's addresses.
address() {
  python3 -c 'import json, sys
value = json.load(open(sys.argv[1]))
for key in sys.argv[2:]: value = value[key]
print(value)' "$dir/state/addresses.json" "$@"
}

start() {
  local venv recordings client binary n=0
  mkdir -p "$dir"
  venv=$(venv okta-3.4.6-recordings 'PyYAML==6.0.3')
  client=$(venv okta-3.4.6 'okta==3.4.6')
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
  (cd "$here/../.." && cargo build --quiet -p aam-sandbox)
  binary=${CARGO_TARGET_DIR:-$here/../../target}/debug/aam-sandbox
  setsid "$binary" --vendors "$here/../../sandbox" --only okta --proxy 127.0.0.1:0 --http acme.okta.com=127.0.0.1:0 \
    --state "$dir/state" >"$dir/sandbox.log" 2>&1 </dev/null &
  echo $! >"$dir/sandbox.pid"
  while [ ! -s "$dir/state/addresses.json" ]; do
    n=$((n + 1))
    if [ "$n" -gt 300 ] || ! kill -0 "$(cat "$dir/sandbox.pid")" 2>/dev/null; then
      tail -n 20 "$dir/sandbox.log" >&2
      stop
      return 1
    fi
    sleep 0.1
  done
  {
    echo "RECORDINGS=$recordings"
    echo "ANSWERS=$recordings/answers.json"
    echo "SANDBOX=$(address proxy)"
    echo "CA=$dir/state/ca.pem"
    echo "CREDENTIALS=$dir/state/credentials.json"
    echo "PYTHON=$client/bin/python"
  } >"$dir/env"
  checked
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
