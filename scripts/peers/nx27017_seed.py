"""Fills NX-27017 at the port that is given, with pymongo."""

import datetime
import sys

import pymongo

with pymongo.MongoClient("127.0.0.1", int(sys.argv[1]), directConnection=True, serverSelectionTimeoutMS=2000) as client:
    client["shop"]["orders"].insert_many(
        {"number": n, "total": n * 1.5, "placed": datetime.datetime(2026, 1, 1), "customer": {"name": f"customer {n}", "tags": ["a", n]}}
        for n in range(1, 31)
    )
    client["shop"]["lines"].insert_one({"sku": "S-1", "paid": True})
    client["hr"]["people"].insert_one({"name": "Ann"})
