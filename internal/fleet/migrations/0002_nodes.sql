-- Who is alive on this database. A node counts beat up; the others watch it change
-- by their own clocks, so that clocks need not agree. joined is 0 while it looks
-- whether it may be here. Times are Unix milliseconds, for people.
CREATE TABLE fleet_nodes (
	instance TEXT   NOT NULL PRIMARY KEY, -- the process
	name     TEXT   NOT NULL,
	home     TEXT   NOT NULL, -- the data folder
	shared   BIGINT NOT NULL, -- 1: it has the engine the nodes share
	joined   BIGINT NOT NULL,
	beat     BIGINT NOT NULL,
	started  BIGINT NOT NULL,
	seen     BIGINT NOT NULL,
	facts    TEXT   NOT NULL -- JSON
);
