"""Starts smongo, a MongoDB server that others wrote, with access control: once in clear text and once with TLS.

Users live in memory, so a server without access control creates them first, and the others share its storage. Environment: PORT,
TLS_PORT, CERTIFICATE, KEY (PEM files), READER_PASSWORD, WRITER_PASSWORD, BLIND_PASSWORD, SETUP_PORT. The argument is the folder of its
data."""

import datetime
import os
import sys
import threading

import bson
import pymongo
from smongo.wire.server import WireServer


def seed(client):
    shop = client["shop"]
    shop["orders"].insert_many(
        {"number": n, "total": n * 1.5, "placed": datetime.datetime(2026, 1, 1), "customer": {"name": f"customer {n}", "tags": ["a", n]}}
        for n in range(1, 31)
    )
    shop["lines"].insert_one({"sku": "S-1", "amount": bson.Int64(3), "paid": True, "note": None})
    shop.create_collection("empty")
    client["hr"]["people"].insert_one({"name": "Ann"})
    roles = {"reader": [{"role": "read", "db": "shop"}], "writer": [{"role": "readWrite", "db": "shop"}], "blind": [{"role": "read", "db": "hr"}]}
    for name, granted in roles.items():
        client["admin"].command("createUser", name, pwd=os.environ[f"{name.upper()}_PASSWORD"], roles=granted)


def main():
    setup = WireServer(db_path=sys.argv[1], port=int(os.environ["SETUP_PORT"]), auth_required=False)
    setup.start()
    with pymongo.MongoClient("127.0.0.1", setup.port, directConnection=True) as client:
        seed(client)
    storage = setup._local_client
    plain = WireServer(port=int(os.environ["PORT"]), local_client=storage, auth_required=True)
    plain.start()
    secure = WireServer(
        port=int(os.environ["TLS_PORT"]),
        local_client=storage,
        auth_required=True,
        tls_cert_file=os.environ["CERTIFICATE"],
        tls_key_file=os.environ["KEY"],
    )
    secure.start()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
