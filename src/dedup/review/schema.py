"""The tables of a ledger, in the SQL of SQLite and of PostgreSQL."""

VERSION = "1"
"""Version of the tables, kept in the table ``meta``."""

_TABLES = """
CREATE TABLE decision (
  decision_id {key},
  batch TEXT NOT NULL,
  seq INTEGER NOT NULL,
  left_id TEXT NOT NULL,
  right_id TEXT NOT NULL,
  verdict TEXT NOT NULL,
  kept TEXT NOT NULL,
  left_print TEXT NOT NULL,
  right_print TEXT NOT NULL,
  left_pixels TEXT NOT NULL,
  left_bytes TEXT NOT NULL,
  right_pixels TEXT NOT NULL,
  right_bytes TEXT NOT NULL,
  reviewer TEXT NOT NULL,
  source TEXT NOT NULL,
  run TEXT NOT NULL,
  context TEXT NOT NULL,
  note TEXT NOT NULL,
  took_ms INTEGER NOT NULL,
  made_at TEXT NOT NULL,
  undoes TEXT NOT NULL,
  replaces TEXT NOT NULL,
  UNIQUE (batch, seq)
);
CREATE TABLE fingerprint (
  print TEXT NOT NULL,
  pixels TEXT NOT NULL,
  bytes TEXT NOT NULL,
  PRIMARY KEY (print, pixels, bytes)
);
CREATE TABLE product_seen (
  product TEXT NOT NULL,
  print TEXT NOT NULL,
  PRIMARY KEY (product, print)
);
CREATE TABLE reviewer (
  name TEXT PRIMARY KEY,
  role TEXT NOT NULL
);
CREATE TABLE token (
  sha256 TEXT PRIMARY KEY,
  reviewer TEXT NOT NULL,
  kind TEXT NOT NULL,
  made_at TEXT NOT NULL
);
CREATE TABLE meta (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
);
INSERT INTO meta (name, value) VALUES ('schema', '1');
"""

_GUARDED = ("decision", "fingerprint", "product_seen")
"""Tables whose rows are never changed or deleted."""

SQLITE = _TABLES.format(key="INTEGER PRIMARY KEY AUTOINCREMENT") + "".join(
    f"""
CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table}
BEGIN SELECT RAISE(ABORT, 'rows of {table} are never changed or deleted'); END;
"""
    for table in _GUARDED
    for event in ("UPDATE", "DELETE")
)

POSTGRES = (
    _TABLES.format(key="BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY")
    + """
CREATE FUNCTION dedup_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'rows of % are never changed or deleted', TG_TABLE_NAME; END $$;
"""
    + "".join(
        f"""
CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION dedup_refuse();
"""
        for table in _GUARDED
    )
)

QUEUE = """
CREATE TABLE work (
  run TEXT NOT NULL,
  item INTEGER NOT NULL,
  sure INTEGER NOT NULL,
  doubt INTEGER NOT NULL,
  is_open INTEGER NOT NULL,
  leased_to TEXT NOT NULL,
  leased_until {number} NOT NULL,
  PRIMARY KEY (run, item)
);
CREATE INDEX work_sure ON work (run, is_open, sure);
CREATE INDEX work_doubt ON work (run, is_open, doubt);
CREATE TABLE facet (
  run TEXT NOT NULL,
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  item INTEGER NOT NULL,
  PRIMARY KEY (run, name, value, item)
);
CREATE TABLE skipped (
  run TEXT NOT NULL,
  item INTEGER NOT NULL,
  reviewer TEXT NOT NULL,
  until {number} NOT NULL,
  PRIMARY KEY (run, item, reviewer)
);
"""
"""Tables of the work queue, which may be lost at any time."""
