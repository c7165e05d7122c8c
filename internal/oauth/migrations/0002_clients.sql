-- Clients: their metadata (RFC 7591) as JSON, beside what is asked for in SQL.
CREATE TABLE clients (
	id           TEXT   NOT NULL PRIMARY KEY,
	metadata     TEXT   NOT NULL,
	origin       TEXT   NOT NULL, -- operator, registered, document
	registration TEXT   NOT NULL, -- digest of the registration access token (RFC 7592)
	disabled     BIGINT NOT NULL,
	created      BIGINT NOT NULL,
	created_by   TEXT   NOT NULL,
	updated      BIGINT NOT NULL,
	fetched      BIGINT NOT NULL, -- of a metadata document
	last_used    BIGINT NOT NULL,
	version      BIGINT NOT NULL
);
CREATE TABLE client_secrets (
	id        TEXT   NOT NULL PRIMARY KEY,
	client    TEXT   NOT NULL,
	sha256    TEXT   NOT NULL,
	created   BIGINT NOT NULL,
	not_after BIGINT NOT NULL,
	last_used BIGINT NOT NULL
);
CREATE INDEX client_secrets_client ON client_secrets (client);

-- What may be seen once: ids of client assertions.
CREATE TABLE once (
	kind    TEXT   NOT NULL,
	sha256  TEXT   NOT NULL,
	expires BIGINT NOT NULL,
	PRIMARY KEY (kind, sha256)
);
CREATE INDEX once_expires ON once (expires);

-- Devices that wait for their user (RFC 8628).
CREATE TABLE devices (
	sha256    TEXT   NOT NULL PRIMARY KEY, -- of the device code
	user_code TEXT   NOT NULL UNIQUE,      -- digest of the user code
	client    TEXT   NOT NULL,
	scope     TEXT   NOT NULL,
	resource  TEXT   NOT NULL,
	details   TEXT   NOT NULL,
	state     TEXT   NOT NULL, -- pending, approved, denied, redeemed
	grant_id  TEXT   NOT NULL,
	every     BIGINT NOT NULL, -- seconds between two questions
	polled    BIGINT NOT NULL,
	created   BIGINT NOT NULL,
	expires   BIGINT NOT NULL
);
CREATE INDEX devices_expires ON devices (expires);

-- Logout tokens on their way to clients.
CREATE TABLE logouts (
	id       TEXT   NOT NULL PRIMARY KEY,
	client   TEXT   NOT NULL,
	user_id  TEXT   NOT NULL,
	sid      TEXT   NOT NULL,
	attempts BIGINT NOT NULL,
	due      BIGINT NOT NULL,
	created  BIGINT NOT NULL
);
CREATE INDEX logouts_due ON logouts (due);
