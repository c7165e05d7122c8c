package pages

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// ErrWaiting tells that a request does not wait: it is unknown, over, or another
// browser's.
var ErrWaiting = errors.New("no such authorization request waits for this browser")

// Flow is the authorization server as the pages need it. *oauth.Server is one.
type Flow interface {
	// Waiting returns the authorization request id that waits for this browser to
	// sign in, or an error that is [ErrWaiting].
	Waiting(ctx context.Context, r *http.Request, id string) (*Waiting, error)
	// Continue returns the path, with its query, that goes on with the request.
	Continue(id string) string
	// Grants returns what the user let clients do, and that still holds.
	Grants(ctx context.Context, user string) ([]Grant, error)
	RevokeGrant(ctx context.Context, actor, id string) error
	EndSession(ctx context.Context, actor, sid string) error
}

// Waiting is an authorization request that cannot go on before somebody has
// signed in. The sign-in pages ask for exactly what it says.
type Waiting struct {
	Client      Client
	LoginHint   string   // shown in the field, believed by nobody
	ACR         []string // classes of which the session must reach one before this goes on; none: any session will do
	Reauth      bool     // the session there is, if any, is too old for this request: the user must prove again who it is
	Select      bool     // the user is asked which account to use (prompt=select_account)
	RedirectURI string   // where the answer goes in the end; its origin is allowed as target of our forms
}

// Client is an application as people see it. Everything in it may have been
// written by its maker.
type Client struct {
	Name      string // "": the pages say "An application"
	URI       string // its home page; shown when https
	PolicyURI string
	TOSURI    string
	Stranger  bool // registered itself: nobody here has looked at its name
}

// An Item is one line of a list: a scope, say, and the sentence that explains it.
type Item struct {
	Name string
	Text string // "": Name is all there is
}

// A Field is a hidden field that comes back unchanged in the form's POST.
type Field struct{ Name, Value string }

// A Grant is what a user let one client do, for the account page.
type Grant struct {
	ID      string
	Client  Client
	Scopes  []Item
	Offline bool // outlives the session
	Created time.Time
	Used    time.Time // zero: not since
}

// ConsentView asks a user whether a client may do what it asks for. The answer is
// a POST to /consent below the issuer with the fields request and decision, which
// is "allow" or "deny".
type ConsentView struct {
	Request     string // one-time id of the question
	Client      Client
	User        string // name of who is asked
	Scopes      []Item
	Resources   []Item // APIs it is for
	Details     []Item // authorization_details (RFC 9396)
	Offline     bool   // it wants to go on when the user is away
	RedirectURI string
}

// DeviceView is one step of the device flow (RFC 8628 §3.3). State is "ask" (POST
// to /device: user_code), "confirm" (POST to /device: user_code, request,
// decision, which is "allow" or "deny"), "approved" or "denied".
type DeviceView struct {
	State   string
	Code    string // user code, as typed or from verification_uri_complete
	Problem string // what was wrong with Code; ""
	Request string // one-time id of the question
	User    string
	Client  Client
	Scopes  []Item
}

// LogoutView asks whether to sign out, or says that it happened when Done. The
// answer is a POST to /logout with Fields and decision, which is "logout" or "stay".
type LogoutView struct {
	Client      Client
	User        string // "": nobody is signed in
	Fields      []Field
	RedirectURI string
	Done        bool
}
