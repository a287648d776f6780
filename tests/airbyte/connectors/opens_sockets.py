"""Looks for a way into the network besides the proxy: raw, packet, UDP, netlink and Unix sockets, TCP to `targets` (a list of
HOST:PORT) and to the metadata address, name resolution, servers of its own on other addresses. The check passes only if all of
it is refused; otherwise it fails and names what was possible."""

import socket

from connector import log, run, status


def check(config):
    possible = []

    def attempt(name, action):
        try:
            action()
            possible.append(name)
        except OSError as refused:
            log(f"{name}: {refused.strerror or refused}")

    attempt("raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
    attempt("packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
    attempt("UDP socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    attempt("UDP socket over IPv6", lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
    attempt("netlink socket", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
    attempt("Unix socket", lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    attempt("name resolution", lambda: socket.getaddrinfo("example.com", 443))
    for target in ["169.254.169.254:80", "1.1.1.1:443", *config.get("targets", [])]:
        host, port = target.rsplit(":", 1)
        attempt(f"TCP to {target}", lambda: socket.create_connection((host, int(port)), timeout=3).close())
    status(not possible, "; ".join(possible) or None)


run(check=check)
