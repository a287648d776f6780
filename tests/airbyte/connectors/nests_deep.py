"""Makes a tree of folders that is `levels` (19,500) deep and has a copy of its config at the bottom. Longer chains take longer,
because every change is checked in every folder above it, so it makes chains of 1,500 and joins them by renaming. Then it goes on."""

import os

from connector import run

CHAIN = 1500
FLAGS = os.O_RDONLY | os.O_DIRECTORY


def chain(name, levels):
    """Makes folders inside of each other and returns the last one, open."""
    os.mkdir(name)
    last = os.open(name, FLAGS)
    for _ in range(levels - 1):
        os.mkdir("d", dir_fd=last)
        deeper = os.open("d", FLAGS, dir_fd=last)
        os.close(last)
        last = deeper
    return last


def fault(command, config):
    levels = config.get("levels", 19500)
    bottom = chain("chain-0", CHAIN)
    for number in range(1, levels // CHAIN):
        last = chain(f"chain-{number}", CHAIN)
        os.rename(f"chain-{number}", "d", dst_dir_fd=bottom)
        os.close(bottom)
        bottom = last
    file = os.open("config.json", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=bottom)
    os.write(file, str(config).encode())
    os.close(file)
    os.chdir(os.environ["HOME"])


run(fault)
