package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/egress"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/identity/scim"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/plan"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// secrets are the keys of the authorization server. They outlive a reload.
type secrets struct {
	keys      *token.Keyring
	seal      *token.Sealer
	decrypter *token.Decrypter
}

// An authority is the authorization server one config asks for, with its people.
type authority struct {
	made   string // what it was made of: a reload that changes none of it keeps it
	people *identity.Directory
	as     *oauth.Server
	owners owners // of API keys
	stop   func()
}

// openSecrets reads the keys a keeper has, or makes them there.
func openSecrets(k token.Keeper) (*secrets, error) {
	var s secrets
	var err error
	if s.keys, err = token.OpenKeyring(k, ringKeys, ringAlgorithms()...); err != nil {
		return nil, err
	}
	if s.seal, err = token.OpenSealer(k, sealKeys); err != nil {
		return nil, err
	}
	s.decrypter, err = token.OpenDecrypter(k, decryptKey)
	return &s, err
}

// authorityFor gives the authorization server of p: the one at work where nothing
// of it has changed, or a new one.
func (h *House) authorityFor(p *plan.Plan) (*authority, error) {
	f := p.File
	if f.OAuth == nil {
		return nil, nil
	}
	made, err := json.Marshal([]any{f.OAuth, f.Identity, p.Resources(), f.APIKeys.Enabled, accessTokens(f), f.Behind()})
	if err != nil {
		return nil, err
	}
	if a := h.authority; a != nil && a.made == string(made) {
		return a, nil
	}
	if h.secrets == nil {
		if h.secrets, err = openSecrets(h.keeper); err != nil {
			return nil, err
		}
		h.workers.Go(func() { h.secrets.keys.Run(h.ctx, h.reporter("signing keys")) })
		h.workers.Go(func() { h.secrets.seal.Run(h.ctx, h.reporter("sealing keys")) })
	}
	a := &authority{made: string(made)}
	if err := h.build(h.ctx, p, a); err != nil {
		return nil, config.Errorf(f.OAuth.Place, "oauth: %v", err)
	}
	ctx, stop := context.WithCancel(h.ctx)
	a.stop = stop
	h.workers.Go(func() { a.people.Run(ctx, h.reporter("people")) })
	h.workers.Go(func() { a.as.Run(ctx, h.reporter("housekeeping")) })
	return a, nil
}

// build makes the parts of a. Nothing of them runs yet.
func (h *House) build(ctx context.Context, p *plan.Plan, a *authority) error {
	f := p.File
	who, err := p.People()
	if err != nil {
		return err
	}
	who.DB, who.Seal, who.Log, who.OnlyOne = h.db, h.secrets.seal, h.changes, h.onlyOne
	if a.people, err = identity.Open(ctx, who); err != nil {
		return err
	}
	if a.owners.people, err = identity.OpenStandings(ctx, h.db); err != nil {
		return err
	}
	cfg, err := p.OAuth()
	if err != nil {
		return err
	}
	out, err := egress.New(egress.Config{Allow: config.Values(f.OAuth.Internal)})
	if err != nil {
		return err
	}
	cfg.DB, cfg.Keys, cfg.Seal, cfg.People, cfg.Log = h.db, h.secrets.keys, h.secrets.seal, a.people, h.changes
	cfg.Decrypter, cfg.Fetch, cfg.Post, cfg.OnlyOne = h.secrets.decrypter, out, out, h.onlyOne
	if cfg.Proofs, err = h.proofsFor(proofs{"token", f.OAuth.DPoP.Nonce, cfg.Profile}); err != nil {
		return err
	}
	if f.APIKeys.Enabled {
		cfg.APIKeys = h.keys
	}
	if cfg.SignIns, err = p.SignIns(a.people, h.secrets.seal); err != nil {
		return err
	}
	for i := range cfg.Resources {
		if r := &cfg.Resources[i]; r.Format == "encrypted" && r.Key == nil {
			r.Key = h.secrets.decrypter.PublicJWK() // this gateway is its one reader
		}
	}
	if a.as, err = oauth.New(ctx, *cfg); err != nil {
		return err
	}
	return nil
}

// reporter tells the log of the first error of an outage, and of its end.
func (h *House) reporter(what string) func(error) {
	return func(err error) {
		if err != nil {
			h.log.Error("a part of the authorization server fails", slog.String("part", what), slog.Any("error", err))
		} else {
			h.log.Info("a part of the authorization server works again", slog.String("part", what))
		}
	}
}

// accessTokens lists what apis say of their tokens, to notice when it changes.
func accessTokens(f *config.File) map[string]*config.APIToken {
	out := map[string]*config.APIToken{}
	for name, api := range f.APIs {
		out[name] = api.AccessToken
	}
	return out
}

// proofs says whose memory of DPoP proofs is meant. The token endpoint has its own:
// any stranger's key can fill that one.
type proofs struct {
	at    string // "token" or "gate"
	nonce bool   // they must carry one
	rules oauth.Profile
}

// remembered is the memory in use at one place, and under which settings.
type remembered struct {
	which  proofs
	proofs *token.Proofs
}

// proofsFor gives a memory of DPoP proofs. It outlives reloads, also those that
// change its settings: a proof that was seen before one is not fresh after it.
func (h *House) proofsFor(which proofs) (*token.Proofs, error) {
	before := h.proofs[which.at]
	if before.which == which {
		return before.proofs, nil
	}
	cfg := token.ProofsConfig{RequireNonce: which.nonce, Algorithms: oauth.ProofAlgorithms(which.rules), Before: before.proofs}
	if h.secrets != nil {
		cfg.Seal = h.secrets.seal
	}
	if h.nodes != nil {
		cfg.Marks, cfg.Space = marks{h}, "dpop."+which.at
	}
	p, err := token.NewProofs(cfg)
	if err == nil {
		h.proofs[which.at] = remembered{which, p}
	}
	return p, err
}

// service is the part of the house that answers the operations of one of its own
// APIs, see plan.OAuthAPI.
func (a *authority) service(api string, p *plan.Plan) (http.Handler, error) {
	f := p.File
	switch {
	case a == nil:
	case api == plan.OAuthAPI || api == plan.DiscoveryAPI:
		return a.as.Handler(), nil
	case api == plan.SCIMAPI:
		issuer, err := url.Parse(f.OAuth.Issuer.Value)
		if err != nil {
			return nil, err
		}
		s := f.Identity.SCIM
		may, err := p.MayProvision()
		if err != nil {
			return nil, err
		}
		return scim.New(scim.Config{
			Directory: a.people, Base: "https://" + issuer.Host + s.Base, Passwords: s.Passwords, TrustEmail: s.Believe, May: may,
		})
	}
	return nil, fmt.Errorf("nothing answers %s", api)
}
