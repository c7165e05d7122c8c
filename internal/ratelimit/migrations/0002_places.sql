-- A place has a row of its own, as a key has: it counts how many keys of the place
-- have rows, and what those have used together that came when there was no room.
ALTER TABLE limit_quotas ADD COLUMN callers BIGINT NOT NULL DEFAULT 0;
CREATE INDEX limit_quotas_places ON limit_quotas (name, since) WHERE callers > 0;
