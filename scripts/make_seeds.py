#!/usr/bin/env python3
"""Generates the seed files of seeds/data/ and the Parquet fixtures of tests/data/.

The files are committed; this script generates them again:

    python3 scripts/make_seeds.py                          # CSV, JSON Lines, SQLite: standard library only
    pip install pyarrow && python3 scripts/make_seeds.py   # and the Parquet files

All people, companies and numbers are invented. The random seeds are fixed, so the data is always the same.
"""

import csv
import datetime as dt
import json
import pathlib
import random
import sqlite3

HERE = pathlib.Path(__file__).resolve().parent.parent
SEEDS = HERE / "seeds" / "data"
FIXTURES = HERE / "tests" / "data"
START = dt.datetime(2026, 1, 5, 8, 0, tzinfo=dt.timezone.utc)
PLACES = ["Aarhus", "Bergen", "Graz", "Lyon", "Porto", "Tartu", "Turku", "Utrecht"]
FIRST = ["Ada", "Bo", "Cleo", "Dag", "Eva", "Finn", "Gro", "Hal", "Ida", "Jon"]
SECOND = ["Alder", "Birch", "Cedar", "Elm", "Fir", "Hazel", "Larch", "Maple"]
GOODS = ["lamp", "desk", "chair", "shelf", "clock", "rug"]


def customers(rng):
    rows = []
    for number in range(1, 41):
        name = f"{rng.choice(FIRST)} {rng.choice(SECOND)}"
        rows.append({
            "customer_id": number,
            "name": name,
            "email": f"{name.lower().replace(' ', '.')}.{number}@customer.example",
            "city": rng.choice(PLACES),
            "since": (START - dt.timedelta(days=rng.randrange(30, 900))).date().isoformat(),
            "credit": f"{rng.randrange(0, 500_000) / 100:.2f}" if rng.random() > 0.1 else "",
            "newsletter": rng.choice(["true", "false"]),
        })
    with open(SEEDS / "customers.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return rows


def events(rng):
    with open(SEEDS / "events.jsonl", "w", encoding="utf-8") as file:
        at = START
        for number in range(1, 81):
            at += dt.timedelta(seconds=rng.randrange(1, 7200))
            event = {
                "event_id": f"e-{number:04}",
                "at": at.isoformat().replace("+00:00", "Z"),
                "kind": rng.choice(["login", "search", "order", "logout"]),
                "customer_id": rng.randrange(1, 41),
                "took_ms": rng.randrange(3, 900),
                "device": {"kind": rng.choice(["phone", "laptop"]), "touch": rng.random() > 0.5},
                "tags": rng.sample(["new", "sale", "mobile"], rng.randrange(0, 3)),
            }
            file.write(json.dumps(event, separators=(",", ":")) + "\n")


def tickets(rng):
    path = SEEDS / "tickets.db"
    path.unlink(missing_ok=True)
    base = sqlite3.connect(path)
    # No WAL, because the file must be readable in a read-only directory.
    base.executescript("""
        PRAGMA journal_mode = DELETE;
        PRAGMA page_size = 4096;
        CREATE TABLE agents (agent_id INTEGER PRIMARY KEY, name TEXT NOT NULL, team TEXT NOT NULL);
        CREATE TABLE tickets (
            ticket_id INTEGER PRIMARY KEY,
            agent_id INTEGER REFERENCES agents (agent_id),
            title TEXT NOT NULL,
            priority TEXT NOT NULL CHECK (priority IN ('low', 'normal', 'high')),
            opened_at TEXT NOT NULL,
            closed_at TEXT
        );
        CREATE TABLE comments (
            ticket_id INTEGER NOT NULL REFERENCES tickets (ticket_id),
            position INTEGER NOT NULL,
            words TEXT NOT NULL,
            PRIMARY KEY (ticket_id, position)
        ) WITHOUT ROWID;
        CREATE INDEX tickets_by_agent ON tickets (agent_id);
    """)
    for number in range(1, 9):
        base.execute("INSERT INTO agents VALUES (?, ?, ?)", (number, f"{rng.choice(FIRST)} {rng.choice(SECOND)}", rng.choice(["red", "blue"])))
    for number in range(1, 41):
        opened = START + dt.timedelta(hours=rng.randrange(0, 2000))
        closed = (opened + dt.timedelta(hours=rng.randrange(1, 200))).isoformat() if rng.random() > 0.3 else None
        agent = rng.randrange(1, 9) if rng.random() > 0.2 else None
        title = f"the {rng.choice(GOODS)} is {rng.choice(['late', 'broken', 'blue, not red', 'too large'])}"
        base.execute("INSERT INTO tickets VALUES (?, ?, ?, ?, ?, ?)", (number, agent, title, rng.choice(["low", "normal", "high"]), opened.isoformat(), closed))
    for number in range(52):
        base.execute("INSERT INTO comments VALUES (?, ?, ?)", (number % 40 + 1, number // 40 + 1, rng.choice(["thank you", "please wait", "a new one is on its way"])))
    base.commit()
    base.execute("VACUUM")
    base.close()


def parquet(rng):
    try:
        import decimal

        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        print("pyarrow is not installed; the Parquet files were not changed")
        return
    rows = 60
    at = [START + dt.timedelta(minutes=rng.randrange(0, 100_000)) for _ in range(rows)]
    orders = pa.table({
        "order_id": pa.array(range(1001, 1001 + rows), pa.int64()),
        "customer_id": pa.array([rng.randrange(1, 41) for _ in range(rows)], pa.int32()),
        "ordered_at": pa.array(at, pa.timestamp("us", tz="UTC")),
        "delivery": pa.array([(moment + dt.timedelta(days=3)).date() if rng.random() > 0.2 else None for moment in at], pa.date32()),
        "total": pa.array([decimal.Decimal(rng.randrange(100, 99_999)).scaleb(-2) for _ in range(rows)], pa.decimal128(10, 2)),
        "weight_kg": pa.array([round(rng.random() * 40, 3) for _ in range(rows)], pa.float64()),
        "gift": pa.array([rng.random() > 0.8 for _ in range(rows)], pa.bool_()),
        "goods": pa.array([rng.sample(GOODS, rng.randrange(1, 4)) for _ in range(rows)], pa.list_(pa.string())),
        "address": pa.array([{"city": rng.choice(PLACES), "zip": f"{rng.randrange(1000, 9999)}"} for _ in range(rows)],
                            pa.struct([("city", pa.string()), ("zip", pa.string())])),
        "note": pa.array([rng.choice(["", "ring twice", None]) for _ in range(rows)], pa.string()),
    })
    fields = [field.with_nullable(field.name != "order_id") for field in orders.schema]
    pq.write_table(orders.cast(pa.schema(fields)), SEEDS / "orders.parquet", compression="snappy")
    small = orders.slice(0, 25)
    for name, options in {
        "snappy": {"compression": "snappy"},
        "zstd": {"compression": "zstd"},
        "gzip_v2": {"compression": "gzip", "data_page_version": "2.0"},
        "plain": {"compression": "none", "use_dictionary": False, "row_group_size": 7},
        "int96": {"compression": "lz4", "use_deprecated_int96_timestamps": True},
    }.items():
        pq.write_table(small, FIXTURES / f"orders_{name}.parquet", **options)
    # A codec that aam does not support.
    pq.write_table(small.select(["order_id"]), FIXTURES / "orders_brotli.parquet", compression="brotli")
    maps = pa.table({"settings": pa.array([[("a", 1), ("b", 2)], []], pa.map_(pa.string(), pa.int32())), "raw": pa.array([b"\x00", None], pa.binary())})
    pq.write_table(maps, FIXTURES / "maps.parquet")
    pq.write_table(orders.slice(0, 0), FIXTURES / "orders_empty.parquet")


def main():
    SEEDS.mkdir(parents=True, exist_ok=True)
    FIXTURES.mkdir(parents=True, exist_ok=True)
    customers(random.Random(1))
    events(random.Random(2))
    tickets(random.Random(3))
    parquet(random.Random(4))


if __name__ == "__main__":
    main()
