"""Leaves folders without any permission behind: their mode comes from a umask of 0777. Then it goes on."""

import os

from connector import run


def fault(command, config):
    os.makedirs("open/inside")
    with open("open/inside/config.json", "w", encoding="utf-8") as file:
        file.write(str(config))
    os.umask(0o777)
    os.makedirs("closed")
    os.rename("open/inside", "open/moved")
    os.mkdir("open/closed")
    os.umask(0o077)


run(fault)
