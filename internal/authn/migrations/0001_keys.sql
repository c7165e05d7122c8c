-- API keys. Times are Unix milliseconds, 0 for never. Roles and scopes are words
-- separated by spaces. Of the key itself only the SHA-256 is here.
CREATE TABLE api_keys (
	id          TEXT   NOT NULL PRIMARY KEY,
	lineage     TEXT   NOT NULL,
	environment TEXT   NOT NULL,
	sha256      TEXT   NOT NULL UNIQUE,
	owner       TEXT   NOT NULL,
	tenant      TEXT   NOT NULL,
	roles       TEXT   NOT NULL,
	scopes      TEXT   NOT NULL,
	note        TEXT   NOT NULL,
	created     BIGINT NOT NULL,
	created_by  TEXT   NOT NULL,
	expires     BIGINT NOT NULL,
	revoked     BIGINT NOT NULL,
	revoked_by  TEXT   NOT NULL,
	last_used   BIGINT NOT NULL
);
CREATE INDEX api_keys_lineage ON api_keys (lineage);
