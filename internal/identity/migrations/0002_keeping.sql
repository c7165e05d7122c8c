-- What a user may type to sign in: the name and the address. One table, so that
-- nobody can take as a name what is another one's address.
CREATE TABLE logins (
	login   TEXT NOT NULL PRIMARY KEY,
	user_id TEXT NOT NULL
);
CREATE INDEX logins_user ON logins (user_id);
INSERT INTO logins (login, user_id) SELECT name, id FROM users;
INSERT INTO logins (login, user_id) SELECT email, id FROM users WHERE email <> '' AND email <> name;

-- Ids of users and groups that were deleted.
CREATE TABLE tombstones (
	id      TEXT   NOT NULL PRIMARY KEY,
	deleted BIGINT NOT NULL
);

-- Attempts that were not (yet) successful, by what is counted: kind is login,
-- account, source, totp, …; id what it says. The next one is free at the time in
-- free. A row that nobody touched for a day is removed.
CREATE TABLE throttles (
	kind     TEXT   NOT NULL,
	id       TEXT   NOT NULL,
	failures BIGINT NOT NULL,
	since    BIGINT NOT NULL, -- the first of them
	seen     BIGINT NOT NULL, -- the last
	free     BIGINT NOT NULL,
	PRIMARY KEY (kind, id)
);
CREATE INDEX throttles_seen ON throttles (seen);

-- From where a user has signed in: there a stranger's guesses elsewhere do not
-- make the owner wait.
CREATE TABLE familiar (
	user_id TEXT   NOT NULL,
	source  TEXT   NOT NULL,
	seen    BIGINT NOT NULL,
	PRIMARY KEY (user_id, source)
);
CREATE INDEX familiar_seen ON familiar (seen);

-- Codes sent by mail: kind is verify or reset. The address is the one it went to;
-- a newer code takes the place of the older one.
CREATE TABLE codes (
	kind    TEXT   NOT NULL,
	user_id TEXT   NOT NULL,
	sha256  TEXT   NOT NULL UNIQUE,
	email   TEXT   NOT NULL,
	expires BIGINT NOT NULL,
	PRIMARY KEY (kind, user_id)
);

-- Mail that has to be sent. Kind is mail (content: address, subject and text) or
-- reset (content: what somebody typed as a name: whether there is such a user is
-- looked up later, so that the answer's time does not tell). Content is sealed.
CREATE TABLE outbox (
	id      TEXT   NOT NULL PRIMARY KEY,
	kind    TEXT   NOT NULL,
	content TEXT   NOT NULL,
	due     BIGINT NOT NULL, -- when to try next; a sender at work moves it
	tries   BIGINT NOT NULL,
	expires BIGINT NOT NULL  -- useless from then on
);
CREATE INDEX outbox_due ON outbox (due);

-- Revocations are numbered, so that those who follow them read only new ones. The
-- counter's row is locked until the commit: numbers appear in their order.
ALTER TABLE revocations ADD COLUMN seq BIGINT NOT NULL DEFAULT 0;
CREATE INDEX revocations_seq ON revocations (seq);
CREATE INDEX revocations_until ON revocations (until);
CREATE TABLE revocations_last (
	one BIGINT NOT NULL PRIMARY KEY,
	seq BIGINT NOT NULL
);
INSERT INTO revocations_last (one, seq) VALUES (1, 0);
