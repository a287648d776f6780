# Shared by the peers; sourced.

# A word of 32 hex digits that was never written down before.
new_secret() {
  od -An -N16 -tx1 /dev/urandom | tr -d ' \n'
}

# A TCP port on loopback that nobody listens on now. Two peers that ask at once get different ones
# from the kernel; a start that loses its port is tried again by the caller.
free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# install PACKAGE...: only what is not there. One apt at a time on this machine.
install() {
  (
    flock 9
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >/dev/null 2>&1 ||
      { apt-get update >/dev/null 2>&1 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >/dev/null; }
  ) 9>"${TMPDIR:-/tmp}/aam-peers-apt.lock"
}

# as_user USER COMMAND...: servers refuse to run as root.
as_user() {
  local user=$1
  shift
  if [ "$(id -un)" = "$user" ] || [ "$(id -u)" != 0 ]; then "$@"; else setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups -- "$@"; fi
}

# The user that a server runs as when the caller is root.
server_user() {
  if [ "$(id -u)" != 0 ]; then id -un; elif id "$1" >/dev/null 2>&1; then echo "$1"; else echo nobody; fi
}

# certify DIR: DIR/ca.pem, and DIR/server.crt with DIR/server.key for the name localhost alone.
certify() {
  command -v openssl >/dev/null || install openssl
  (
    cd "$1"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=peer authority" \
      -addext "basicConstraints=critical,CA:TRUE" -keyout ca.key -out ca.pem
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=localhost" -keyout server.key -out server.csr
    printf 'subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n' >server.ext
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile server.ext -out server.crt
  ) >/dev/null 2>&1
  chmod 600 "$1/server.key"
}
