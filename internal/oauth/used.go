package oauth

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ScopesUsed returns, for each client, the scopes of the grants from which tokens
// were made since then: what is left of a client's scope nobody has needed. Grants
// that ended long ago are gone, and a client's tokens for itself leave no grant.
func (s *Server) ScopesUsed(ctx context.Context, since time.Time) (map[string][]string, error) {
	used := map[string][]string{}
	err := s.cfg.DB.Read(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT DISTINCT client, scope FROM grants WHERE gen > 0 AND rotated >= $1`, since.UnixMilli())
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var client, scope string
			if err := rows.Scan(&client, &scope); err != nil {
				return err
			}
			for w := range strings.FieldsSeq(scope) {
				if !slices.Contains(used[client], w) {
					used[client] = append(used[client], w)
				}
			}
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("oauth: scopes in use: %w", err)
	}
	return used, nil
}
