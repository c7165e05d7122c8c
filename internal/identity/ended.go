package identity

import (
	"context"
	"database/sql"
	"fmt"
)

// EndedSessions returns the ids of sessions that somebody has ended, by whatever
// process, since the call that returned the mark after; 0 is the beginning of
// what is still remembered. At most 500 are returned: ask again with the new
// mark until there are none.
func (d *Directory) EndedSessions(ctx context.Context, after int64) (ids []string, mark int64, err error) {
	mark = after
	err = d.cfg.DB.Read(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT id, seq FROM revocations WHERE kind = 'session' AND seq > $1 ORDER BY seq LIMIT 500`, after)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var id string
			if err := rows.Scan(&id, &mark); err != nil {
				return err
			}
			ids = append(ids, id)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, after, fmt.Errorf("identity: ended sessions: %w", err)
	}
	return ids, mark, nil
}
