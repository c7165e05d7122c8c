// Package store keeps what Gatehouse must remember: the ground under practices
// 1, 4, 6, 7 and 11.
//
// It owns the database, its connections and the record of migrations, and hides
// which engine it is: SQLite (a file, without cgo) or PostgreSQL (a URL). Rooms bring their own
// tables as numbered .sql files and speak plain SQL in $1 style, portable to
// both: times are BIGINT Unix milliseconds, digests are hex TEXT, no dialect
// words, no NUL in text (asked for, it is not found), one query at a time in a transaction, and after a
// statement that failed the transaction is over.
//
// It trusts the folder: who can write there can forge every key, user and
// setting, and who can read there sees them (secrets are stored only hashed or
// sealed by the rooms). Hence files are 0600, a folder made here is 0700, and a
// folder every user may write to is refused. A change whose [DB.Write] returned
// nil survives kill -9 and loss of power (WAL, synchronous=FULL). Losing the
// file loses all keys: everyone is refused until it is restored.
//
// Errors are plain, wrapped and for the operator; callers of an API never see
// them. A busy, full or broken database is an error, never an empty answer.
//
// Rooms that keep a copy of rows for requests follow them by a [Follower]: they know
// within a second what was changed, and for how long nobody could look.
//
// What a fleet shares for a short time (marks that something was used, budgets of
// rate limits, leases, messages) is kept by [Shared]: in memory, or by Valkey or
// Redis. Who can write there can have limits forgotten and used codes used again,
// not more; losing it means the same for what was in it.
//
// It moves everything in it, too: backups are JSON lines, the same for both engines,
// with what the tables hold; restores and copies are one transaction, read back
// before it is committed.
//
//	db, err := store.Open(ctx, store.Config{Path: "data/gatehouse.db"})
//	err = db.Migrate(ctx, store.RoomOf("keys", migrations)) // an embed.FS with migrations/0001_keys.sql, 0002_….sql
//	err = db.Write(ctx, func(tx *sql.Tx) error {
//		_, err := tx.ExecContext(ctx, `UPDATE api_keys SET note = $1 WHERE id = $2`, note, id)
//		return err
//	})
package store
