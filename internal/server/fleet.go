package server

import (
	"context"
	"log/slog"
	"path"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/fleet"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// The documents of keys of a house, in its data folder or in its database.
const (
	internalKeys = "internal-token.jwks"
	ringKeys     = "oauth-keys"
	sealKeys     = "seal.json"
	decryptKey   = "token-decryption.jwk"
)

func ringAlgorithms() []token.Algorithm {
	return []token.Algorithm{token.ES256, token.EdDSA, token.RS256}
}

// keeperOf is who has the keys of the house: its data folder, or in a fleet the
// database, which takes in what the folder has when it has none yet.
func keeperOf(ctx context.Context, f *config.File, db *store.DB, changes *auditlog.Changes, log *slog.Logger) (token.Keeper, error) {
	if f.Fleet == nil {
		return token.Files(f.Data.Value), nil
	}
	cfg := fleet.KeysConfig{DB: db, Key: f.Fleet.Key.Secret, Changes: changes}
	for _, s := range f.Fleet.OtherKeys {
		cfg.Others = append(cfg.Others, s.Secret)
	}
	keys, err := fleet.OpenKeys(ctx, cfg)
	if err != nil {
		return nil, config.Errorf(f.Fleet.Place, "%v", err)
	}
	names := []string{internalKeys, sealKeys, decryptKey}
	for _, alg := range ringAlgorithms() {
		names = append(names, path.Join(ringKeys, strings.ToLower(string(alg))+".jwks"))
	}
	taken, err := keys.TakeIn(ctx, token.Files(f.Data.Value), names...)
	if len(taken) > 0 {
		log.Info("the keys of the data folder are in the database now; once it has a backup, remove these files", slog.Any("files", taken))
	}
	return keys, err
}
