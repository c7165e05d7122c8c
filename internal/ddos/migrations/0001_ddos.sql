-- Who is shut out. Times are Unix milliseconds; until 0: for good; lifted 0: it stands.
-- origin is operator or guard; accept 1: connections are refused, 0: requests without
-- credentials that may be good.
CREATE TABLE ddos_bans (
	prefix  TEXT   NOT NULL PRIMARY KEY,
	origin  TEXT   NOT NULL,
	accept  BIGINT NOT NULL,
	reason  TEXT   NOT NULL,
	by_whom TEXT   NOT NULL,
	since   BIGINT NOT NULL,
	until   BIGINT NOT NULL,
	lifted  BIGINT NOT NULL
);
-- One row. seq counts the changes of all this, so that who follows them reads only
-- what is new. attack: 1 while every caller without credentials is challenged, until
-- attack_until (0: until it is switched off). secret is the key of challenges, in hex.
CREATE TABLE ddos_state (
	one          BIGINT NOT NULL PRIMARY KEY,
	seq          BIGINT NOT NULL,
	attack       BIGINT NOT NULL,
	attack_until BIGINT NOT NULL,
	attack_since BIGINT NOT NULL,
	attack_by    TEXT   NOT NULL,
	secret       TEXT   NOT NULL
);
INSERT INTO ddos_state (one, seq, attack, attack_until, attack_since, attack_by, secret) VALUES (1, 1, 0, 0, 0, '', '');
