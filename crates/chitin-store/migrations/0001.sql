-- Schema 1. Times are milliseconds since the Unix epoch; states and outcomes are the codes of `codes.rs`.
-- NULL stands for "none" or "empty" wherever that is the usual case: it costs one byte.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- epoch: the gateway lives so far. seq_floor: the admission sequence never goes back, though the newest task be
-- deleted. probe: written to see whether writing works.
CREATE TABLE counter (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counter (name, value) VALUES ('epoch', 0), ('seq_floor', 0), ('probe', 0);

CREATE TABLE boot (
    no      INTEGER PRIMARY KEY,
    boot_id TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE queue (
    id     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL UNIQUE,
    paused INTEGER NOT NULL
) STRICT;
INSERT INTO queue (id, name, paused) VALUES (1, 'default', 0);

CREATE TABLE principal (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE token (
    name          TEXT PRIMARY KEY,
    sha256        BLOB NOT NULL UNIQUE,
    scopes        TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What the boot scan and listings look at stands first: SQLite reads a row from its beginning.
CREATE TABLE task (
    seq                 INTEGER PRIMARY KEY,
    id                  BLOB NOT NULL UNIQUE,
    state               INTEGER NOT NULL,
    owner_epoch         INTEGER NOT NULL,
    principal           INTEGER NOT NULL,
    queue               INTEGER NOT NULL,
    priority            INTEGER NOT NULL,
    attempt             INTEGER NOT NULL,
    cancel_requested    INTEGER NOT NULL,
    payload_bytes       INTEGER NOT NULL,
    due_wall_ms         INTEGER,           -- alone: a wall time the client named
    due_boot            INTEGER,
    due_boottime_ms     INTEGER,
    due_delay_ms        INTEGER,
    expires_wall_ms     INTEGER,
    expires_boot        INTEGER,
    expires_boottime_ms INTEGER,
    expires_delay_ms    INTEGER,
    submitted_at_ms     INTEGER NOT NULL,
    started_at_ms       INTEGER,
    ended_at_ms         INTEGER,           -- not NULL exactly in the final states
    round               INTEGER NOT NULL,
    retries             INTEGER NOT NULL,
    poison              INTEGER NOT NULL,
    kept_bytes          INTEGER NOT NULL,
    timeout_ms          INTEGER,
    ttl_ms              INTEGER NOT NULL,
    retry_max           INTEGER NOT NULL,
    retry_backoff_ms    BLOB,              -- 4 bytes, little-endian, for each wait
    retry_jitter        INTEGER NOT NULL,  -- thousandths
    memory_bytes        INTEGER,
    cpu_millis          INTEGER,
    pids                INTEGER,
    merge               INTEGER NOT NULL,
    tags                TEXT               -- one a line
) STRICT;

-- What a starting gateway reads.
CREATE INDEX task_open ON task (seq) WHERE ended_at_ms IS NULL;

-- What retention reads; it covers the sum of the bytes kept.
CREATE INDEX task_ended ON task (ended_at_ms, seq, payload_bytes, kept_bytes) WHERE ended_at_ms IS NOT NULL;

-- Only tagged tasks stand here; the others pay nothing.
CREATE TABLE task_tag (
    tag TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (tag, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE payload (
    seq     INTEGER PRIMARY KEY,
    command TEXT NOT NULL,
    env     TEXT,
    cwd     TEXT,
    stdin   BLOB
) STRICT;

CREATE TABLE attempt (
    seq               INTEGER NOT NULL,
    attempt           INTEGER NOT NULL,
    round             INTEGER NOT NULL,
    token             BLOB NOT NULL,
    epoch             INTEGER NOT NULL,
    boot              INTEGER NOT NULL,
    leased_at_ms      INTEGER NOT NULL,
    started_at_ms     INTEGER,
    ended_at_ms       INTEGER,
    outcome           INTEGER,
    exit_code         INTEGER,
    signal            INTEGER,
    error             TEXT,
    peak_memory_bytes INTEGER,
    cpu_ms            INTEGER,
    logs              INTEGER NOT NULL,
    PRIMARY KEY (seq, attempt)
) STRICT, WITHOUT ROWID;

-- A task's newest result: only a round that succeeds leaves one, and no round follows it.
CREATE TABLE result (
    seq          INTEGER PRIMARY KEY,
    round        INTEGER NOT NULL,
    attempt      INTEGER NOT NULL,
    truncated    INTEGER NOT NULL,
    content_type TEXT NOT NULL,
    sha256       BLOB NOT NULL,
    body         BLOB NOT NULL
) STRICT;

CREATE TABLE output (
    seq        INTEGER NOT NULL,
    attempt    INTEGER NOT NULL,
    interleave BLOB NOT NULL,
    stderr     BLOB NOT NULL,
    stdout     BLOB,                       -- NULL: the result, byte for byte
    PRIMARY KEY (seq, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE submission (
    first_seq    INTEGER PRIMARY KEY,
    principal    INTEGER NOT NULL,
    route        TEXT NOT NULL,
    key          TEXT NOT NULL,
    body_sha256  BLOB NOT NULL,
    ids          BLOB NOT NULL,            -- 16 bytes for each task
    ended_state  INTEGER,
    forget_at_ms INTEGER,
    UNIQUE (principal, key, route)
) STRICT;

CREATE INDEX submission_forget ON submission (forget_at_ms) WHERE forget_at_ms IS NOT NULL;

-- Submissions of several tasks whose end nobody has seen yet: the sweep looks.
CREATE INDEX submission_several ON submission (first_seq) WHERE forget_at_ms IS NULL AND length(ids) > 16;
