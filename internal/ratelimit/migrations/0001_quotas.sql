-- What each key has used of a calendar quota. A lease counts as used when it is
-- taken, so that nobody can spend a token twice. got is what the last change gave:
-- the one statement that takes tells by it how many there were.
CREATE TABLE limit_quotas (
	name    TEXT   NOT NULL, -- of the limit
	counted TEXT   NOT NULL, -- hex digest of who is counted
	since   BIGINT NOT NULL, -- the period
	until   BIGINT NOT NULL,
	used    BIGINT NOT NULL,
	got     BIGINT NOT NULL,
	PRIMARY KEY (name, counted, since)
);
CREATE INDEX limit_quotas_until ON limit_quotas (until);
