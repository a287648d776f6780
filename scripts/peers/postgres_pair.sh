#!/usr/bin/env bash
# PostgreSQL 15 or newer for tests that start servers of their own, kill them and replace them: postgres_pair.sh start DIR | stop DIR
#
# DIR/env: BIN (the programs of the server), RUN_UID and RUN_GID (whom the servers run as, because they refuse to run as root),
# FOLDER (a folder of that user, in which a test makes its servers), and DISK_A and DISK_B: two file systems of 1.5 GB for the data
# of two servers, which a test fills. They are loop devices and need root; the names are empty where nothing can be mounted.
# `stop` ends every server whose data is below FOLDER or on one of the disks.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

# Mounts a file system in the file DIR/NAME.img at DIR/NAME.
disk() {
  [ "$(id -u)" = 0 ] && command -v mkfs.ext4 >/dev/null || return 1
  mkdir -p "$dir/$1"
  truncate -s 1536M "$dir/$1.img"
  # No blocks are kept for root, so that the disk is as full for the server as for the test.
  mkfs.ext4 -q -m 0 -E lazy_itable_init=1,lazy_journal_init=1 "$dir/$1.img" >/dev/null 2>&1 || return 1
  mount -o loop "$dir/$1.img" "$dir/$1" 2>/dev/null || return 1
  chown "$user" "$dir/$1"
}

start() {
  local bin user disk_a=$dir/disk_a disk_b=$dir/disk_b
  bin=$(newest_postgres) || true
  if [ -z "$bin" ] || [ "$bin" = . ]; then
    install postgresql
    bin=$(newest_postgres)
  fi
  installed
  user=$(server_user postgres)
  mkdir -p "$dir/servers"
  if ! { disk disk_a && disk disk_b; }; then
    echo "postgres_pair: no file system could be mounted, so the faults of a full disk are LEFT OUT (root has to run this)" >&2
    unmount
    disk_a='' disk_b=''
  fi
  if [ "$(id -u)" = 0 ]; then chown "$user" "$dir/servers"; fi
  {
    echo "BIN=$bin"
    echo "RUN_UID=$(id -u "$user")"
    echo "RUN_GID=$(id -g "$user")"
    echo "FOLDER=$dir/servers"
    echo "DISK_A=$disk_a"
    echo "DISK_B=$disk_b"
  } >"$dir/env"
}

unmount() {
  local name
  for name in disk_a disk_b; do
    if mountpoint -q "$dir/$name" 2>/dev/null; then umount "$dir/$name" || umount -l "$dir/$name" || true; fi
  done
}

stop() {
  local file pid pids=()
  while IFS= read -r file; do
    pid=$(head -n 1 "$file")
    # Another process may have the number by now.
    if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q "${file%/postmaster.pid}"; then
      kill -QUIT "$pid" 2>/dev/null || true
      pids+=("$pid")
    fi
  done < <(find "$dir" -name postmaster.pid 2>/dev/null)
  for pid in "${pids[@]}"; do
    for _ in $(seq 50); do
      # An ended process that its parent did not wait for does not have a command line any more.
      [ -n "$(tr -d '\0' <"/proc/$pid/cmdline" 2>/dev/null)" ] || break
      sleep 0.1
    done
  done
  unmount
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
