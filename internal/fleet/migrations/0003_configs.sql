-- Configs pushed for all nodes, each whole and never changed. files is JSON: name,
-- SHA-256 and text of each. mac binds number, digest, author and time to the fleet's
-- key, which kek names: who only writes rows can give the nodes no config. made is in
-- Unix milliseconds.
CREATE TABLE fleet_configs (
	revision BIGINT NOT NULL PRIMARY KEY,
	digest   TEXT   NOT NULL, -- SHA-256 over names and contents of the files
	author   TEXT   NOT NULL,
	made     BIGINT NOT NULL,
	origin   BIGINT NOT NULL, -- the revision that this one has brought back, 0: none
	files    TEXT   NOT NULL,
	kek      TEXT   NOT NULL,
	mac      TEXT   NOT NULL
);
