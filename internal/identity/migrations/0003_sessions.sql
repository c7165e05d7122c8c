-- Where people have signed in. The cookie's value is random; here is its SHA-256.
-- A session that ended is deleted, and its id revoked.
CREATE TABLE sessions (
	id        TEXT   NOT NULL PRIMARY KEY, -- sid of tokens
	cookie    TEXT   NOT NULL UNIQUE,
	user_id   TEXT   NOT NULL,
	amr       TEXT   NOT NULL,
	acr       TEXT   NOT NULL,
	source    TEXT   NOT NULL, -- upstream that proved who it is; '' when we did
	auth_time BIGINT NOT NULL,
	created   BIGINT NOT NULL,
	seen      BIGINT NOT NULL,
	idle      BIGINT NOT NULL, -- ends then without a request
	expires   BIGINT NOT NULL, -- ends then at the latest; idle is never later
	address   TEXT   NOT NULL,
	agent     TEXT   NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_idle ON sessions (idle);

-- Authenticator apps. The step is that of the last code that was taken.
CREATE TABLE totp (
	user_id TEXT   NOT NULL PRIMARY KEY,
	secret  TEXT   NOT NULL, -- sealed
	step    BIGINT NOT NULL,
	created BIGINT NOT NULL
);

-- Recovery codes that are left: SHA-256 of user and code.
CREATE TABLE recovery_codes (
	sha256  TEXT   NOT NULL PRIMARY KEY,
	user_id TEXT   NOT NULL,
	created BIGINT NOT NULL
);
CREATE INDEX recovery_codes_user ON recovery_codes (user_id);

-- Passkeys. Credential is the authenticator's id for it and public_key a COSE key
-- (RFC 9052), both base64url.
CREATE TABLE passkeys (
	id              TEXT   NOT NULL PRIMARY KEY,
	user_id         TEXT   NOT NULL,
	credential      TEXT   NOT NULL UNIQUE,
	public_key      TEXT   NOT NULL,
	name            TEXT   NOT NULL,
	transports      TEXT   NOT NULL, -- words
	aaguid          TEXT   NOT NULL, -- hex
	attestation     TEXT   NOT NULL, -- format
	backup_eligible BIGINT NOT NULL,
	backup_state    BIGINT NOT NULL,
	sign_count      BIGINT NOT NULL,
	created         BIGINT NOT NULL,
	used            BIGINT NOT NULL,
	copied          BIGINT NOT NULL  -- when its counter last went back: somebody has a copy
);
CREATE INDEX passkeys_user ON passkeys (user_id);

-- What may happen once: SHA-256 of the sealed state of a ceremony that was used.
CREATE TABLE ceremonies (
	sha256 TEXT   NOT NULL PRIMARY KEY,
	until  BIGINT NOT NULL
);
CREATE INDEX ceremonies_until ON ceremonies (until);

-- With this secret passkeys are made up for names that have none, the same ones
-- each time: else asking to sign in would tell which names there are.
CREATE TABLE passkey_decoys (
	one    BIGINT NOT NULL PRIMARY KEY,
	secret TEXT   NOT NULL
);
