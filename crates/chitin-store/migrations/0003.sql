-- Schema 3: attempts that are being ended because memory runs out for all.

ALTER TABLE attempt ADD COLUMN evicted INTEGER NOT NULL DEFAULT 0;
