# Databases of older programs, and what shape a database has, without the program under test.
#
#   make FILE ROWS MIGRATION…   a database that these migrations lead to, with an older program's rows after the first one
#   shapes MIGRATION…           what each of them leads to: the tables and their columns, as a JSON list that begins with nothing
#   look FILE                   schema, shape and integrity of a database, as JSON; the file stays as it was found
import json
import os
import shutil
import sqlite3
import sys
import tempfile
import time


def shape(db):
    names = db.execute("SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY 1, 2").fetchall()
    columns = lambda name: [row[1] for row in db.execute(f"PRAGMA table_info('{name}')")]
    return {f"{kind} {name}": columns(name) for kind, name in names}


def run(db, path):
    with open(path) as script:
        db.executescript(script.read())


def make(path, rows, migrations):
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    db = sqlite3.connect(path, isolation_level=None)
    for number, migration in enumerate(migrations, 1):
        db.execute("BEGIN")
        run(db, migration)
        if number == 1:
            run(db, rows)
            db.execute("UPDATE meta SET value = randomblob(16) WHERE name = 'store_id'")
            # It has just been left: nothing of it is past its time.
            now = int(time.time() * 1000)
            db.execute("UPDATE task SET ended_at_ms = ? WHERE ended_at_ms IS NOT NULL", [now])
            db.execute("UPDATE task SET due_wall_ms = ? WHERE due_wall_ms IS NOT NULL", [now + 3_600_000])
            db.execute("UPDATE task SET expires_wall_ms = ? WHERE expires_wall_ms IS NOT NULL", [now + 7_200_000])
            db.execute("UPDATE submission SET forget_at_ms = ? WHERE forget_at_ms IS NOT NULL", [now + 3_600_000])
    db.execute("PRAGMA application_id = 0x4368746e")
    db.execute(f"PRAGMA user_version = {len(migrations)}")
    db.execute("PRAGMA journal_mode = wal")
    db.close()


def shapes(migrations):
    db = sqlite3.connect(":memory:")
    all_of_them = [shape(db)]
    for migration in migrations:
        run(db, migration)
        all_of_them.append(shape(db))
    return all_of_them


def look(path):
    # Whoever opens a database works its log off: that is left to the program.
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "copy.db")
        for end in ["", "-wal"]:
            if os.path.exists(path + end):
                shutil.copy(path + end, copy + end)
        db = sqlite3.connect(copy)
        version = db.execute("PRAGMA user_version").fetchone()[0]
        whole = db.execute("PRAGMA integrity_check").fetchone()[0]
        seen = {"schema": version, "shape": shape(db), "whole": whole}
        db.close()
        return seen


what, *words = sys.argv[1:]
if what == "make":
    make(words[0], words[1], words[2:])
elif what == "shapes":
    print(json.dumps(shapes(words)))
else:
    print(json.dumps(look(words[0])))
