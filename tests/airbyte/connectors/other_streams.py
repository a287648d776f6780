"""Returns records of a stream that was not asked for before the one record of the stream that was."""

from connector import record, run


def read(config, streams):
    for number in range(5):
        record({"id": number}, "others")
    record({"id": 1}, streams[0])


run(read=read)
