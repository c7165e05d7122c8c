-- The keys of the house, sealed under the fleet's key: base64url of nonce and
-- ciphertext (AES-256-GCM), bound to name and revision. kek names the key that opens
-- one. A revision is never used again. Times are Unix milliseconds.
CREATE TABLE fleet_keys (
	name     TEXT   NOT NULL PRIMARY KEY,
	revision BIGINT NOT NULL,
	kek      TEXT   NOT NULL,
	sealed   TEXT   NOT NULL,
	changed  BIGINT NOT NULL
);
