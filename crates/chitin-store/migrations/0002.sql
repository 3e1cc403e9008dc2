-- Schema 2: events. A submission has none; its task's row stands for it, and `after_seq` says where it belongs. Rows
-- only come at the end, and the newest never goes, so a number is never given twice.

CREATE TABLE event (
    no        INTEGER PRIMARY KEY,
    after_seq INTEGER NOT NULL,            -- the last admission before it
    at_ms     INTEGER NOT NULL,
    name      TEXT NOT NULL,
    task      BLOB,                        -- its id: the task may be gone
    attempt   INTEGER,
    detail    TEXT                         -- a JSON object
) STRICT;

CREATE INDEX event_task ON event (task) WHERE task IS NOT NULL;
