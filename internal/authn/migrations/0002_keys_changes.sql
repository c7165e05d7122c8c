-- Changes of keys are numbered, so that those who follow them read only new ones.
-- The counter's row is locked until the commit: numbers appear in their order.
-- When a key was last used is no change.
ALTER TABLE api_keys ADD COLUMN seq BIGINT NOT NULL DEFAULT 0;
CREATE INDEX api_keys_seq ON api_keys (seq);
CREATE TABLE api_keys_last (
	one BIGINT NOT NULL PRIMARY KEY,
	seq BIGINT NOT NULL
);
INSERT INTO api_keys_last (one, seq) VALUES (1, 0);
