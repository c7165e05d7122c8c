-- Counts the changes of users and groups, so that those who hold what somebody may
-- do (API keys) ask again only then.
CREATE TABLE standings_last (
	one BIGINT NOT NULL PRIMARY KEY,
	seq BIGINT NOT NULL
);
INSERT INTO standings_last (one, seq) VALUES (1, 0);
