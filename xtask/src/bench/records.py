"""The bare prepared statement, on a copy of a server's own database.

Arguments: the database, a place for the copy, the operation, how often. Prints CPU time per
operation in microseconds and operations per second.
"""

import json
import os
import sqlite3
import sys
import time

source, copy, operation, count = sys.argv[1:]
count = int(count)
if not os.path.exists(copy):
    database = sqlite3.connect(source)
    database.execute("VACUUM INTO ?", (copy,))
    database.close()

database = sqlite3.connect(copy, isolation_level=None)
database.execute("PRAGMA journal_mode = WAL")
database.execute("PRAGMA synchronous = NORMAL")
sessions = [row[0] for row in database.execute("SELECT id FROM sessions")]
agents = [row[0] for row in database.execute("SELECT agent_id FROM sessions GROUP BY 1 HAVING count(*) >= 50")]
template = dict(zip(
    [column[1] for column in database.execute("PRAGMA table_info(sessions)")],
    database.execute("SELECT * FROM sessions").fetchone()))
insert = "INSERT INTO sessions (%s) VALUES (%s)" % (
    ", ".join(template), ", ".join("?" * len(template)))
checkpoint = json.dumps({"a": "x" * 1010})


def event(ident, kind):
    database.execute(
        "INSERT INTO events (event_type, aggregate_type, aggregate_id, payload, metadata,"
        " created_at, version) VALUES (?, 'session', ?, ?, '{}', ?, 1)",
        (kind, ident, '{"changed":["checkpoint"]}', time.time_ns() // 1000))


def get(number):
    database.execute("SELECT * FROM sessions WHERE id = ?",
                     (sessions[number * 7919 % len(sessions)],)).fetchone()


def list_(number):
    rows = database.execute(
        "SELECT * FROM sessions WHERE agent_id = ? ORDER BY created_at DESC, id DESC LIMIT 50",
        (agents[number % len(agents)],)).fetchall()
    assert len(rows) == 50


def patch(number):
    ident = sessions[number * 7919 % len(sessions)]
    database.execute("BEGIN IMMEDIATE")
    database.execute(
        "UPDATE sessions SET checkpoint = ?, updated_at = ?, version = version + 1 WHERE id = ?",
        (checkpoint, time.time_ns() // 1000, ident))
    event(ident, "session.updated")
    database.execute("COMMIT")


def create(number):
    ident = os.urandom(16)
    values = dict(template, id=ident, name=None, request_key=None,
                  created_at=time.time_ns() // 1000)
    database.execute("BEGIN IMMEDIATE")
    database.execute(insert, list(values.values()))
    event(ident, "session.created")
    database.execute("COMMIT")


call = {"get": get, "list": list_, "patch": patch, "create": create}[operation]
begun, cpu = time.perf_counter(), time.process_time()
for number in range(count):
    call(number)
took, cpu = time.perf_counter() - begun, time.process_time() - cpu
print(json.dumps([cpu / count * 1e6, count / took]))
