"""Stores as older versions of the schema left them."""

from __future__ import annotations

import sqlite3

TRIALS_3 = """
CREATE TABLE trials_3 (
    case_id INTEGER NOT NULL REFERENCES cases(id),
    seed INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('ok','diverged','timeout','error','unavailable')),
    step INTEGER NOT NULL,
    reason TEXT NOT NULL,
    final_loss REAL,
    seconds REAL NOT NULL,
    mode TEXT NOT NULL,
    machine TEXT NOT NULL,
    PRIMARY KEY (case_id, seed)
) WITHOUT ROWID
"""
VERDICTS_3 = """
CREATE TABLE verdicts (
    family TEXT PRIMARY KEY,
    mode TEXT NOT NULL,
    calls_closure INTEGER NOT NULL,
    reason TEXT NOT NULL,
    lane_bytes INTEGER NOT NULL,
    step_seconds REAL NOT NULL
) WITHOUT ROWID
"""


def to_version_3(db: sqlite3.Connection) -> None:
    """Make a store what the third version of the schema would have left."""
    modes = "CASE ways.way WHEN 'pointwise' THEN 'vmap' ELSE ifnull(ways.way, '') END"
    db.execute(TRIALS_3)
    db.execute(
        "INSERT INTO trials_3 SELECT case_id, seed, status, step, trials.reason, final_loss, "
        f"seconds, {modes}, machine FROM trials LEFT JOIN ways ON ways.id = trials.way"
    )
    for table in ("trials", "ways", "sharings", "comparisons"):
        db.execute(f"DROP TABLE {table}")
    db.execute("ALTER TABLE curves DROP COLUMN evaluations")
    columns = {name for _, name, *_ in db.execute("PRAGMA table_info(timings)")}
    if "evaluations" in columns:
        db.execute("ALTER TABLE timings DROP COLUMN evaluations")
    db.execute("ALTER TABLE trials_3 RENAME TO trials")
    db.execute(VERDICTS_3)
    db.execute("INSERT INTO verdicts VALUES ('f', 'grouped', 1, '', 17, 0.25)")
    db.execute("PRAGMA user_version = 3")
