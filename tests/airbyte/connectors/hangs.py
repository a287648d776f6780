"""Never answers and ignores every signal that can be ignored. If `answer_first` is true it answers first, like a connector whose
threads do not end."""

import signal
import time

from connector import log, run, status


def fault(command, config):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    log("ready to hang")
    if config.get("answer_first") and command == "check":
        status(True)
    while True:
        time.sleep(3600)


run(fault)
