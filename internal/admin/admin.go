package admin

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

// Config says what the API works with. All of it is required but Base.
type Config struct {
	Desk

	Roles *authz.Roles // of the config
	Base  string       // path it is served under, for Location; the handler itself is asked without it
}

// maxBody bounds a body also where no gateway has.
const maxBody = 1 << 20

type api struct {
	Config

	mux *http.ServeMux
}

// A call is one request by a proven caller.
type call struct {
	*http.Request

	who   *gatehouse.Principal
	actor string // for the log of changes
	w     http.ResponseWriter
}

// An answer is what an operation says. Its zero value is 204.
type answer struct {
	status   int
	body     any
	version  int64  // ETag; 0: none
	location string // under the base
	written  bool   // the operation has answered by itself
}

type operation func(*call) (answer, error)

// New makes the handler of the API's operations. A request without a principal in
// its context, which is one that came past the gateway, is refused.
func New(cfg Config) (http.Handler, error) {
	if cfg.People == nil || cfg.OAuth == nil || cfg.Keyring == nil || cfg.Log == nil || cfg.Seal == nil || cfg.Roles == nil {
		return nil, errors.New("admin: people, an authorization server, its keys, a log of changes, a sealer and roles are required")
	}
	a := &api{cfg, http.NewServeMux()}
	for pattern, op := range a.routes() {
		a.mux.Handle(pattern, a.handler(op))
	}
	a.mux.Handle("/", a.handler(func(*call) (answer, error) { return answer{}, unknown("operation") }))
	return a, nil
}

func (a *api) routes() map[string]operation {
	return map[string]operation{
		"GET /users":                        a.listUsers,
		"POST /users":                       a.createUser,
		"GET /users/{id}":                   a.getUser,
		"PATCH /users/{id}":                 a.updateUser,
		"DELETE /users/{id}":                a.deleteUser,
		"POST /users/{id}/lock":             a.lockUser,
		"POST /users/{id}/unlock":           a.unlockUser,
		"PUT /users/{id}/password":          a.setPassword,
		"POST /users/{id}/mails":            a.sendMail,
		"GET /users/{id}/factors":           a.getFactors,
		"DELETE /users/{id}/factors":        a.resetFactors,
		"GET /users/{id}/sessions":          a.listSessions,
		"DELETE /users/{id}/sessions":       a.endSessions,
		"DELETE /users/{id}/sessions/{sid}": a.endSession,
		"GET /users/{id}/grants":            a.listGrants,
		"DELETE /users/{id}/grants/{grant}": a.revokeGrant,
		"GET /groups":                       a.listGroups,
		"POST /groups":                      a.createGroup,
		"GET /groups/{id}":                  a.getGroup,
		"PATCH /groups/{id}":                a.updateGroup,
		"DELETE /groups/{id}":               a.deleteGroup,

		"GET /clients":                          a.listClients,
		"POST /clients":                         a.createClient,
		"GET /clients/{id}":                     a.getClient,
		"PUT /clients/{id}":                     a.replaceClient,
		"DELETE /clients/{id}":                  a.deleteClient,
		"POST /clients/{id}/disable":            a.disableClient,
		"POST /clients/{id}/enable":             a.enableClient,
		"POST /clients/{id}/secrets":            a.addSecret,
		"DELETE /clients/{id}/secrets/{secret}": a.revokeSecret,

		"GET /keys":              a.listKeys,
		"POST /keys":             a.createKey,
		"GET /keys/{id}":         a.getKey,
		"POST /keys/{id}/rotate": a.rotateKey,
		"DELETE /keys/{id}":      a.revokeKey,

		"POST /tokens/inspect":      a.inspectToken,
		"POST /tokens/revoke":       a.revokeToken,
		"POST /revocations":         a.revoke,
		"POST /signing-keys/rotate": a.rotateSigningKeys,
		"GET /export":               a.export,

		"GET /ddos":         a.getDDoS,
		"PUT /ddos/attack":  a.switchAttack,
		"POST /ddos/bans":   a.createBan,
		"DELETE /ddos/bans": a.deleteBan,
	}
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

func (a *api) handler(op operation) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := gatehouse.PrincipalOf(r.Context())
		if who.Anonymous() {
			refuse(w, &gatehouse.Problem{Kind: gatehouse.Unauthenticated, Reason: "authentication_required", Detail: "Nobody was authenticated."})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		ans, err := op(&call{r, who, who.Subject + "@" + who.Issuer, w})
		if err != nil {
			refuse(w, problemOf(err))
			return
		}
		if !ans.written {
			a.write(w, &ans)
		}
	})
}

func (a *api) write(w http.ResponseWriter, ans *answer) {
	h := w.Header()
	h.Set("Cache-Control", "no-store") // people's data, and now and then a secret
	if ans.version > 0 {
		h.Set("Etag", etag(ans.version))
	}
	if ans.location != "" {
		h.Set("Location", a.Base+ans.location)
	}
	if ans.body == nil {
		w.WriteHeader(cmp.Or(ans.status, http.StatusNoContent))
		return
	}
	b, err := json.Marshal(ans.body)
	if err != nil {
		refuse(w, gatehouse.AsProblem(err))
		return
	}
	h.Set("Content-Type", "application/json")
	w.WriteHeader(cmp.Or(ans.status, http.StatusOK))
	_, _ = w.Write(append(b, '\n'))
}

// refuse hands p to the gateway, which alone renders problems. Where there is no
// gateway nobody learns more than the status.
func refuse(w http.ResponseWriter, p *gatehouse.Problem) {
	if g, ok := w.(interface{ Refuse(p *gatehouse.Problem) }); ok {
		g.Refuse(p)
		return
	}
	w.WriteHeader(p.Kind.Status())
}

// problemOf says to the caller what it may know of an error.
func problemOf(err error) *gatehouse.Problem {
	if t, ok := errors.AsType[*identity.Throttled](err); ok {
		return &gatehouse.Problem{Kind: gatehouse.RateLimited, Reason: "rate_limited", Detail: "Too many mails or attempts.", RetryAfter: t.Wait, Err: err}
	}
	for _, c := range []struct {
		is     []error
		kind   gatehouse.Kind
		reason string
	}{
		{[]error{oauth.ErrClientChanged, identity.ErrChanged}, gatehouse.PreconditionFailed, "object_changed"},
		{[]error{oauth.ErrClientTaken, identity.ErrTaken}, gatehouse.Conflict, "object_exists"},
		{
			[]error{oauth.ErrSecretTwoLive, authn.ErrKeyTwoLive, authn.ErrKeyDead, identity.ErrLast, errKeysOff},
			gatehouse.Conflict, "object_state",
		},
		{
			[]error{identity.ErrUnknown, identity.ErrSession, oauth.ErrClientUnknown, oauth.ErrSecretUnknown, oauth.ErrGrantUnknown, oauth.ErrTokenUnknown, authn.ErrKeyUnknown, ddos.ErrNoBan},
			gatehouse.NotFound, "object_not_found",
		},
		{[]error{identity.ErrInvalid, identity.ErrPassword, oauth.ErrClient, authn.ErrKeyRequest, ddos.ErrPrefix, ddos.ErrTooBig}, gatehouse.Unprocessable, "object_refused"},
		{[]error{identity.ErrBusy}, gatehouse.Overloaded, "sign_in_busy"},
	} {
		for _, target := range c.is {
			if errors.Is(err, target) {
				return &gatehouse.Problem{Kind: c.kind, Reason: c.reason, Detail: sentence(err), Err: err}
			}
		}
	}
	return gatehouse.AsProblem(err)
}

// sentence is the text of an error that is about what the caller sent.
func sentence(err error) string {
	const most = 1000
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

func unknown(what string) error {
	return &gatehouse.Problem{Kind: gatehouse.NotFound, Reason: "object_not_found", Detail: "There is no such " + what + "."}
}

// read decodes the body into v. The gateway has validated it; what it did not
// know of is refused all the same. No body leaves v as it is.
func (c *call) read(v any) error {
	dec := json.NewDecoder(c.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil && dec.More() {
		err = errors.New("there is more after the value")
	}
	if err != nil {
		return &gatehouse.Problem{Kind: gatehouse.Unprocessable, Reason: "invalid_body", Detail: "The body is not what the operation takes.", Err: err}
	}
	return nil
}

func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// version is what If-Match names (RFC 9110 §13.1.1), 0 when any will do.
func (c *call) version() (int64, error) {
	value := c.Header.Get("If-Match")
	if value == "" || value == "*" {
		return 0, nil
	}
	text, tail, ok := strings.Cut(strings.TrimPrefix(value, `"`), `"`)
	n, err := strconv.ParseInt(text, 10, 64)
	if !ok || tail != "" || err != nil || n < 1 || etag(n) != value {
		return 0, &gatehouse.Problem{Kind: gatehouse.PreconditionFailed, Reason: "object_changed", Detail: "If-Match does not name a version: send the ETag of the answer that was read."}
	}
	return n, nil
}

// limit is how many of a page are asked for.
func (c *call) limit() int {
	n, err := strconv.Atoi(c.URL.Query().Get("limit"))
	if err != nil || n < 1 || n > maxPage {
		return defaultPage
	}
	return n
}

const (
	defaultPage = 100
	maxPage     = 1000
)

// A cursor is where a list goes on. It is sealed: it would otherwise be a way to
// ask the database for what no parameter can ask for (CVE-2026-33504).
type cursor struct {
	List  string `json:"l"` // with its filters
	After string `json:"a"`
}

const sealedCursor = "admin cursor"

func (a *api) next(c *call, after string) (string, error) {
	b, err := json.Marshal(cursor{listOf(c), after})
	if err != nil {
		return "", err
	}
	return a.Seal.Seal(sealedCursor, b)
}

// after opens the cursor of c, "" for the first page.
func (a *api) after(c *call) (string, error) {
	sealed := c.URL.Query().Get("cursor")
	if sealed == "" {
		return "", nil
	}
	var at cursor
	b, err := a.Seal.Open(sealedCursor, sealed)
	if err == nil {
		err = json.Unmarshal(b, &at)
	}
	if err == nil && at.List != listOf(c) {
		err = fmt.Errorf("it is of the list %q", at.List)
	}
	if err != nil {
		return "", &gatehouse.Problem{
			Kind: gatehouse.Malformed, Reason: "cursor_invalid", Detail: "The cursor is not one of this list with these filters.", Err: err,
		}
	}
	return at.After, nil
}

func listOf(c *call) string {
	q := c.URL.Query()
	q.Del("cursor")
	q.Del("limit")
	return c.URL.Path + "?" + q.Encode()
}
