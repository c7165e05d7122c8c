-- People and groups. Times are Unix milliseconds, 0 for never. Roles are words
-- separated by spaces, claims a JSON object. Names and addresses are canonical.
-- Ids are never used again: a row that is deleted leaves its id in tombstones.
CREATE TABLE users (
	id               TEXT   NOT NULL PRIMARY KEY,
	name             TEXT   NOT NULL UNIQUE,
	email            TEXT   NOT NULL,
	email_verified   BIGINT NOT NULL,
	claims           TEXT   NOT NULL,
	roles            TEXT   NOT NULL,
	tenant           TEXT   NOT NULL,
	external_id      TEXT   NOT NULL,
	source           TEXT   NOT NULL,
	active           BIGINT NOT NULL,
	password         TEXT   NOT NULL, -- PHC string of argon2id; '' for none
	password_changed BIGINT NOT NULL,
	valid_from       BIGINT NOT NULL, -- what was issued before is dead
	created          BIGINT NOT NULL,
	updated          BIGINT NOT NULL,
	version          BIGINT NOT NULL
);
CREATE UNIQUE INDEX users_email ON users (email) WHERE email <> '';
CREATE INDEX users_external_id ON users (external_id);

CREATE TABLE groups (
	id          TEXT   NOT NULL PRIMARY KEY,
	name        TEXT   NOT NULL UNIQUE,
	roles       TEXT   NOT NULL,
	external_id TEXT   NOT NULL,
	created     BIGINT NOT NULL,
	updated     BIGINT NOT NULL,
	version     BIGINT NOT NULL
);
CREATE TABLE memberships (
	group_id TEXT NOT NULL,
	user_id  TEXT NOT NULL,
	PRIMARY KEY (group_id, user_id)
);
CREATE INDEX memberships_user ON memberships (user_id);

-- Who signed in elsewhere: the upstream's name and its name for the user.
CREATE TABLE links (
	source  TEXT   NOT NULL,
	subject TEXT   NOT NULL,
	user_id TEXT   NOT NULL,
	created BIGINT NOT NULL,
	PRIMARY KEY (source, subject)
);
CREATE INDEX links_user ON links (user_id);

-- What is refused although its signature holds: kind is user, client, grant,
-- session or token; everything of it issued up to the time in at is dead. A row
-- is needed until the last token issued before has expired.
CREATE TABLE revocations (
	kind  TEXT   NOT NULL,
	id    TEXT   NOT NULL,
	at    BIGINT NOT NULL,
	until BIGINT NOT NULL,
	PRIMARY KEY (kind, id)
);
