-- The centre's database. Times are Unix time in microseconds, numbers of lanes are kit_protocol::uplink::id::Lane::index,
-- `reason` columns hold the numbers of the wire schema. The version stands in user_version.

-- Single numbers that the centre keeps: `counter`, the last that a signed announcement may have used.
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE kits (
  id INTEGER PRIMARY KEY,
  kit TEXT NOT NULL UNIQUE,          -- unique over all tenants
  tenant TEXT NOT NULL,
  first_seen INTEGER NOT NULL,
  last_seen INTEGER NOT NULL,
  online INTEGER NOT NULL DEFAULT 0,
  nonce BLOB,                        -- of the connection of its last birth
  version TEXT NOT NULL DEFAULT '',
  state BLOB                         -- its last state, as the body of the envelope
) STRICT;

-- Every key ever enrolled; one with `revoked` set speaks for nobody.
CREATE TABLE keys (
  kit INTEGER NOT NULL REFERENCES kits,
  spki BLOB NOT NULL,
  enrolled INTEGER NOT NULL,
  revoked INTEGER,
  PRIMARY KEY (kit, spki)
) STRICT, WITHOUT ROWID;

CREATE TABLE epochs (
  id INTEGER PRIMARY KEY,
  kit INTEGER NOT NULL REFERENCES kits,
  epoch BLOB NOT NULL,               -- 16 octets
  assignment TEXT,                   -- as the kit states it; NULL for the `none` epoch
  closed INTEGER,                    -- EpochReason of its EpochClosed
  UNIQUE (kit, epoch)
) STRICT;

-- The last number of each lane, as an EpochClosed states it.
CREATE TABLE ends (
  epoch INTEGER NOT NULL REFERENCES epochs,
  lane INTEGER NOT NULL,
  last INTEGER,
  PRIMARY KEY (epoch, lane)
) STRICT, WITHOUT ROWID;

-- Each record once, by its key and by its origin.
CREATE TABLE records (
  id INTEGER PRIMARY KEY,
  kit INTEGER NOT NULL,
  epoch INTEGER NOT NULL REFERENCES epochs,
  lane INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  run BLOB NOT NULL,
  digest BLOB NOT NULL,              -- SHA-256 of octets
  received INTEGER NOT NULL,
  origin BLOB,
  octets BLOB NOT NULL,              -- an encoded Record, verbatim
  UNIQUE (epoch, lane, seq)
) STRICT;
CREATE UNIQUE INDEX records_by_origin ON records (kit, origin) WHERE origin IS NOT NULL;

-- Numbers settled without a stored record: origin duplicates (reason 0), and what was rejected for good, with its octets.
CREATE TABLE set_aside (
  epoch INTEGER NOT NULL REFERENCES epochs,
  lane INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  run BLOB NOT NULL,
  digest BLOB NOT NULL,
  received INTEGER NOT NULL,
  reason INTEGER NOT NULL,           -- RejectReason, or 0
  octets BLOB NOT NULL,
  PRIMARY KEY (epoch, lane, seq)
) STRICT;

-- What the small numbers of a run mean. By run, since a store that was rolled back gives numbers a second time.
CREATE TABLE definitions (
  epoch INTEGER NOT NULL REFERENCES epochs,
  run BLOB NOT NULL,
  number INTEGER NOT NULL,
  octets BLOB NOT NULL,              -- an encoded Definition
  PRIMARY KEY (epoch, run, number)
) STRICT, WITHOUT ROWID;

-- Settled numbers; kept in the same commit as what settles them. NULL run: declared gone.
CREATE TABLE spans (
  epoch INTEGER NOT NULL REFERENCES epochs,
  lane INTEGER NOT NULL,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  run BLOB,
  PRIMARY KEY (epoch, lane, first)
) STRICT, WITHOUT ROWID;

-- Numbers that will never come, as the kit declared them or as a lost store left them.
CREATE TABLE gaps (
  id INTEGER PRIMARY KEY,
  epoch INTEGER NOT NULL REFERENCES epochs,
  lane INTEGER NOT NULL,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  reason INTEGER NOT NULL,           -- GapReason
  oldest_boottime_ns INTEGER NOT NULL,
  newest_boottime_ns INTEGER NOT NULL,
  declared INTEGER NOT NULL,
  UNIQUE (epoch, lane, first, last, reason)
) STRICT;

-- Assignments this centre signed.
CREATE TABLE assignments (
  id TEXT PRIMARY KEY,
  tenant TEXT NOT NULL,
  kit TEXT NOT NULL,
  patient TEXT NOT NULL,
  counter INTEGER NOT NULL,
  start_us INTEGER NOT NULL,
  end_us INTEGER NOT NULL,           -- 0: open
  signed INTEGER NOT NULL,
  document BLOB NOT NULL,            -- the Signed envelope
  UNIQUE (kit, counter)
) STRICT;

-- What was not taken, and why; equal findings are counted. No clinical value stands here.
CREATE TABLE audit (
  id INTEGER PRIMARY KEY,
  topic TEXT NOT NULL,
  what TEXT NOT NULL,
  detail TEXT NOT NULL,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  count INTEGER NOT NULL DEFAULT 1,
  UNIQUE (topic, what, detail)
) STRICT;
