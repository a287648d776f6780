#!/usr/bin/env bash
# Recorded answers of Okta, from the source distribution of its Python package: okta.sh start DIR | stop DIR
#
# Nothing is started: the recordings of DPoP are converted to JSON, and the tests replay them. DIR/env: RECORDINGS, the
# folder with one file for each recording.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  :
}

start() {
  local venv recordings
  mkdir -p "$dir"
  venv=$(venv okta-3.4.6-recordings 'PyYAML==6.0.3')
  recordings=$venv/recordings
  (
    flock 9
    if [ ! -e "$recordings/.complete" ]; then
      rm -rf "$recordings"
      mkdir -p "$recordings"
      "$venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary :all: --dest "$recordings" 'okta==3.4.6'
      "$venv/bin/python" - "$recordings" <<'PY'
import json, pathlib, sys, tarfile, yaml
folder = pathlib.Path(sys.argv[1])
archive = next(folder.glob("okta-*.tar.gz"))
with tarfile.open(archive) as tar:
    for member in tar.getmembers():
        if "/cassettes/test_dpop_it/" in member.name and member.name.endswith(".yaml"):
            recording = yaml.safe_load(tar.extractfile(member))
            name = pathlib.Path(member.name).stem.split(".")[-1]
            (folder / f"{name}.json").write_text(json.dumps(recording["interactions"]))
archive.unlink()
PY
      touch "$recordings/.complete"
    fi
  ) 9>"$venv.recordings.lock"
  echo "RECORDINGS=$recordings" >"$dir/env"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
