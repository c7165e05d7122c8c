package pages

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authn"
)

// The lives and overlaps people may choose, by the word in the form.
var (
	keyLives = map[string]time.Duration{"30": 30 * 24 * time.Hour, "90": 90 * 24 * time.Hour, "365": 365 * 24 * time.Hour}
	overlaps = map[string]time.Duration{"now": 0, "day": 24 * time.Hour, "week": 7 * 24 * time.Hour}
)

// maxLiveKeys bounds how many keys one user has at once: each costs memory at
// every gateway.
const maxLiveKeys = 50

type keysView struct {
	Keys   []keyLine
	Roles  []string
	Scopes []Item
	Note   string
	Chosen []string // roles and scopes as they were ticked
}

type keyLine struct {
	authn.Key
	Ended bool
}

// Has reports whether a box was ticked.
func (v keysView) Has(word string) bool { return slices.Contains(v.Chosen, word) }

func (p *Pages) keys(w http.ResponseWriter, r *http.Request, m *me) error {
	return p.showKeys(w, r, m, keysView{}, page{})
}

func (p *Pages) showKeys(w http.ResponseWriter, r *http.Request, m *me, v keysView, pg page) error {
	mine, err := p.keysOf(r, m)
	if err != nil {
		return err
	}
	now := time.Now()
	for _, k := range slices.Backward(mine) {
		if ended := k.Ended(now); !ended || now.Sub(k.Revoked) < 30*24*time.Hour || now.Sub(k.Expires) < 30*24*time.Hour {
			v.Keys = append(v.Keys, keyLine{k, ended})
		}
	}
	v.Roles = m.user.Effective
	for _, s := range slices.Sorted(maps.Keys(p.cfg.Scopes)) {
		v.Scopes = append(v.Scopes, Item{s, p.cfg.Scopes[s]})
	}
	pg.V = v
	return p.show(w, r, m, "keys", "keys", "Your API keys", pg)
}

func (p *Pages) keysOf(r *http.Request, m *me) ([]authn.Key, error) {
	all, err := p.cfg.Keys.List(r.Context())
	return slices.DeleteFunc(all, func(k authn.Key) bool { return k.Owner != m.user.ID }), err
}

// key is the user's key of that id. Another's is answered like one that is not there.
func (p *Pages) key(r *http.Request, m *me, id string) (*authn.Key, error) {
	mine, err := p.keysOf(r, m)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(mine, func(k authn.Key) bool { return k.ID == id })
	if at < 0 {
		return nil, &gatehouse.Problem{Kind: gatehouse.NotFound, Reason: "page_not_found", Detail: "You have no such key."}
	}
	return &mine[at], nil
}

// createKey makes a key that may do at most what its maker may. It is shown in the
// answer, once.
func (p *Pages) createKey(w http.ResponseWriter, r *http.Request, m *me) error {
	form, err := p.change(w, r, m, "/account/keys", "note", "life", "roles[]", "scopes[]")
	if form == nil {
		return err
	}
	n := authn.NewKey{Owner: m.user.ID, Tenant: m.user.Tenant, Roles: form["roles[]"], Scopes: form["scopes[]"], Note: strings.TrimSpace(form.get("note"))}
	v := keysView{Note: n.Note, Chosen: slices.Concat(n.Roles, n.Scopes)}
	again := func(field, text string) error {
		return p.showKeys(w, r, m, v, page{Status: http.StatusUnprocessableEntity, Error: "The key was not made.", Fields: map[string]string{field: text}})
	}
	life, ok := keyLives[form.get("life")]
	n.Life = life
	switch {
	case !ok:
		return formProblem("The form has a value this page does not offer.", nil)
	case n.Note == "":
		return again("note", "Say what the key is for, so that you know later which one to take out of use.")
	case !subset(n.Roles, m.user.Effective), !subset(n.Scopes, slices.Collect(maps.Keys(p.cfg.Scopes))):
		return &gatehouse.Problem{Kind: gatehouse.Forbidden, Reason: "key_exceeds_owner", Detail: "A key can have at most the roles that you have, and scopes that are offered."}
	}
	mine, err := p.keysOf(r, m)
	if err != nil {
		return err
	}
	live := slices.DeleteFunc(mine, func(k authn.Key) bool { return k.Ended(time.Now()) })
	if len(live) >= maxLiveKeys {
		return again("note", "You have as many keys as one account can. Revoke one first.")
	}
	secret, key, err := p.cfg.Keys.Create(r.Context(), m.user.ID, n)
	if errors.Is(err, authn.ErrKeyRequest) {
		return again("note", "Use at most 256 printable characters.")
	}
	if err != nil {
		return err
	}
	return p.showKey(w, r, m, secret, key)
}

func subset(some, all []string) bool {
	for i, s := range some {
		if !slices.Contains(all, s) || slices.Contains(some[:i], s) {
			return false
		}
	}
	return true
}

func (p *Pages) showKey(w http.ResponseWriter, r *http.Request, m *me, secret gatehouse.Secret, key *authn.Key) error {
	return p.show(w, r, m, "key", "keys", "Your new API key", page{V: struct {
		Secret string
		Key    *authn.Key
	}{secret.Reveal(), key}})
}

func (p *Pages) rotateKey(w http.ResponseWriter, r *http.Request, m *me) error {
	form, err := p.change(w, r, m, "/account/keys", "id", "overlap")
	if form == nil {
		return err
	}
	overlap, ok := overlaps[form.get("overlap")]
	if !ok {
		return formProblem("The form has a value this page does not offer.", nil)
	}
	key, err := p.key(r, m, form.get("id"))
	if err != nil {
		return err
	}
	// Who lost a role since the key was made must not carry it on.
	if !subset(key.Roles, m.user.Effective) {
		return p.showKeys(w, r, m, keysView{}, page{Status: http.StatusConflict, Error: "This key has a role that you no longer have. Revoke it and make a new one."})
	}
	secret, fresh, err := p.cfg.Keys.Rotate(r.Context(), m.user.ID, key.ID, overlap)
	switch {
	case errors.Is(err, authn.ErrKeyTwoLive):
		return p.showKeys(w, r, m, keysView{}, page{Status: http.StatusConflict, Error: "This key was replaced already, and both still work. Revoke the old one first."})
	case errors.Is(err, authn.ErrKeyDead):
		return p.showKeys(w, r, m, keysView{}, page{Status: http.StatusConflict, Error: "This key is revoked or expired. Make a new one."})
	case err != nil:
		return err
	}
	return p.showKey(w, r, m, secret, fresh)
}

func (p *Pages) revokeKey(w http.ResponseWriter, r *http.Request, m *me) error {
	form, err := p.change(w, r, m, "/account/keys", "id")
	if form == nil {
		return err
	}
	key, err := p.key(r, m, form.get("id"))
	if err != nil {
		return err
	}
	if err := p.cfg.Keys.Revoke(r.Context(), m.user.ID, key.ID); err != nil {
		return err
	}
	return p.done(w, r, "/account/keys", "revoked")
}
