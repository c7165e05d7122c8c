-- The roles that the upstream gave at the last sign-in: they are taken back when
-- it does not give them any more, and those given here are not.
ALTER TABLE links ADD COLUMN roles TEXT NOT NULL DEFAULT '';
