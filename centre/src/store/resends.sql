-- Numbers that were acknowledged, and whose records are missing: asked for until they are settled again.
CREATE TABLE resends (
  epoch INTEGER NOT NULL REFERENCES epochs,
  lane INTEGER NOT NULL,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  PRIMARY KEY (epoch, lane, first)
) STRICT, WITHOUT ROWID;
