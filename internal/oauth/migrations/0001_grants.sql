-- What was granted. Times are Unix milliseconds, 0 for never; lists are words
-- separated by spaces; digests are SHA-256 in hex. One row of grants is a family of
-- refresh tokens: however often they are used, it stays one row.
CREATE TABLE grants (
	id        TEXT   NOT NULL PRIMARY KEY,
	client    TEXT   NOT NULL,
	user_id   TEXT   NOT NULL,
	sid       TEXT   NOT NULL,
	scope     TEXT   NOT NULL,
	resource  TEXT   NOT NULL,
	details   TEXT   NOT NULL,
	claims    TEXT   NOT NULL,
	acr       TEXT   NOT NULL,
	amr       TEXT   NOT NULL,
	auth_time BIGINT NOT NULL,
	jkt       TEXT   NOT NULL,
	x5t       TEXT   NOT NULL,
	offline   BIGINT NOT NULL,
	gen       BIGINT NOT NULL,
	rotated   BIGINT NOT NULL,
	created   BIGINT NOT NULL,
	expires   BIGINT NOT NULL,
	idle      BIGINT NOT NULL,
	revoked   BIGINT NOT NULL
);
CREATE INDEX grants_user ON grants (user_id, client);
CREATE INDEX grants_client ON grants (client);
CREATE INDEX grants_sid ON grants (sid);
CREATE INDEX grants_expires ON grants (expires);

-- Authorization codes. A consumed one stays until it would have expired, and a
-- while longer: who shows it again has stolen it, and its grant ends.
CREATE TABLE authorization_codes (
	sha256   TEXT   NOT NULL PRIMARY KEY,
	grant_id TEXT   NOT NULL,
	client   TEXT   NOT NULL,
	request  TEXT   NOT NULL, -- the authRequest, as JSON
	expires  BIGINT NOT NULL,
	consumed BIGINT NOT NULL
);
CREATE INDEX authorization_codes_expires ON authorization_codes (expires);

-- Authorization requests that wait: pushed by a client (RFC 9126), or by a browser
-- until its user has signed in and consented.
CREATE TABLE requests (
	sha256   TEXT   NOT NULL PRIMARY KEY,
	kind     TEXT   NOT NULL, -- pushed, waiting
	client   TEXT   NOT NULL,
	browser  TEXT   NOT NULL, -- digest of the cookie of the browser it belongs to
	request  TEXT   NOT NULL,
	created  BIGINT NOT NULL,
	expires  BIGINT NOT NULL,
	consumed BIGINT NOT NULL
);
CREATE INDEX requests_expires ON requests (expires);

-- What a user let a client do, so as not to be asked again.
CREATE TABLE consents (
	user_id  TEXT   NOT NULL,
	client   TEXT   NOT NULL,
	scope    TEXT   NOT NULL,
	resource TEXT   NOT NULL,
	granted  BIGINT NOT NULL,
	PRIMARY KEY (user_id, client)
);
