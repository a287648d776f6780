"""Looks for memory that is not counted as that of its process: shared memory without a file, a shared mapping of /dev/zero, huge
pages, segments of System V, files in memory, and the buffers of connections that end in the process itself. The check passes only
if all of it is refused; otherwise it fails and names what was possible."""

import ctypes
import mmap
import os
import socket

from connector import log, run, status

IPC_PRIVATE, IPC_CREAT = 0, 0o1000
MAP_HUGETLB = 0x40000


def check(config):
    possible = []
    libc = ctypes.CDLL(None, use_errno=True)

    def attempt(name, action):
        try:
            action()
            possible.append(name)
        except OSError as refused:
            log(f"{name}: {refused.strerror or refused}")

    def zero():
        mmap.mmap(os.open("/dev/zero", os.O_RDONLY), 1 << 20, mmap.MAP_SHARED, mmap.PROT_READ)

    def segment():
        if libc.shmget(IPC_PRIVATE, ctypes.c_size_t(1 << 20), IPC_CREAT | 0o600) < 0:
            raise OSError(ctypes.get_errno(), "shmget")

    attempt("shared memory without a file", lambda: mmap.mmap(-1, 1 << 20))
    attempt("a shared mapping of /dev/zero", zero)
    attempt("huge pages", lambda: mmap.mmap(-1, 2 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_HUGETLB))
    attempt("a segment of System V", segment)
    attempt("a file in memory", lambda: os.memfd_create("memory"))
    attempt("a server", lambda: socket.create_server(("127.0.0.1", 0)))
    attempt("a server without a port", lambda: socket.socket().listen())
    status(not possible, "; ".join(possible) or None)


run(check=check)
