package scim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
)

const (
	mediaType = "application/scim+json"
	maxBody   = 4 << 20 // bytes; a group with 50,000 members
)

// Config says whose people these are and where.
type Config struct {
	Directory *identity.Directory
	Base      string // URL under which the endpoints are reached, such as https://id.example.com/scim/v2

	// Passwords lets the caller set passwords. Without it those it sends are ignored:
	// people sign in by an upstream, or set one themselves; Okta sends random ones.
	Passwords bool
	// TrustEmail takes the addresses for verified: the provisioning system gives
	// them out. Then an upstream that verifies addresses, too, may be linked by them.
	TrustEmail bool

	// May reports whether the caller may give these roles, and change who has them.
	// Without it nobody who has a role is changed, and no group that gives one grows.
	May func(who *gatehouse.Principal, roles []string) bool
}

type handler struct {
	cfg           Config
	prefix        string // path of Base
	users, groups *resourceType
}

// New returns the endpoints below cfg.Base: /Users, /Groups,
// /ServiceProviderConfig, /ResourceTypes and /Schemas. The gateway decides who can
// call it, and cfg.May over whom: who may provision people must not become, by a
// group, a password or an address, who administers the house.
func New(cfg Config) (http.Handler, error) {
	base, err := url.Parse(cfg.Base)
	if cfg.Directory == nil || err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" || base.RawQuery != "" || base.Fragment != "" || base.User != nil {
		return nil, fmt.Errorf("scim: a directory, and a base like https://id.example.com/scim/v2, are needed; got %q", cfg.Base)
	}
	cfg.Base = strings.TrimRight(cfg.Base, "/")
	return &handler{cfg: cfg, prefix: strings.TrimRight(base.Path, "/"), users: newUserType(), groups: newGroupType()}, nil
}

// errNotYours refuses a change of who has more than the caller may give.
var errNotYours = &fault{http.StatusForbidden, "", "It has roles that this caller may not give: they can be taken away, and nothing else."}

func (h *handler) may(ctx context.Context, roles []string) bool {
	who := gatehouse.PrincipalOf(ctx)
	return len(roles) == 0 || h.cfg.May != nil && !who.Anonymous() && h.cfg.May(who, roles)
}

func (h *handler) location(rt *resourceType, id string) string {
	return h.cfg.Base + rt.path + "/" + id
}

func (h *handler) meta(rt *resourceType, id string, created, updated time.Time, version int64) map[string]any {
	return map[string]any{
		"resourceType": rt.name, "location": h.location(rt, id), "version": etag(version),
		"created": created.UTC().Format(time.RFC3339Nano), "lastModified": updated.UTC().Format(time.RFC3339Nano),
	}
}

// A found is a resource with what its headers say.
type found struct {
	resource map[string]any
	id       string
	version  int64
}

// A kindOf is what the two kinds of resources do each in their way.
type kindOf struct {
	*resourceType
	read   source
	get    func(ctx context.Context, id string) (*found, error)
	create func(ctx context.Context, actor string, tree map[string]any) (*found, error)
	update func(ctx context.Context, actor, id string, version int64, edit func(map[string]any) (map[string]any, error)) (*found, error)
	remove func(ctx context.Context, actor, id string) error
}

func (h *handler) kind(name string) (kindOf, bool) {
	switch name {
	case "Users":
		return kindOf{h.users, h.userPage, h.getUser, h.createUser, h.updateUser, h.removeUser}, true
	case "Groups":
		return kindOf{h.groups, h.groupPage, h.getGroup, h.createGroup, h.updateGroup, h.removeGroup}, true
	}
	return kindOf{}, false
}

// ServeHTTP answers one request.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h.serve(w, r); err != nil {
		h.refuse(w, r, err)
	}
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request) error {
	path, ok := strings.CutPrefix(r.URL.Path, h.prefix+"/")
	if !ok {
		return identity.ErrUnknown
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return bad("invalidSyntax", "The query is not well-formed.")
	}
	for _, values := range query {
		if len(values) > 1 {
			return bad("invalidSyntax", "A parameter is in the query twice.")
		}
	}
	name, id, one := strings.Cut(path, "/")
	k, ok := h.kind(name)
	switch {
	case !ok:
		return h.describe(w, r, name, id, query)
	case id == ".search" && one:
		return h.search(w, r, k)
	case one && (id == "" || strings.Contains(id, "/")):
		return identity.ErrUnknown
	case one:
		return h.serveOne(w, r, k, id, query)
	}
	return h.serveAll(w, r, k, query)
}

func (h *handler) serveAll(w http.ResponseWriter, r *http.Request, k kindOf, query url.Values) error {
	switch r.Method {
	case http.MethodGet:
		return h.answerList(w, r, k, query)
	case http.MethodPost:
		tree, err := h.body(r, k)
		if err != nil {
			return err
		}
		f, err := k.create(r.Context(), actor(r), tree)
		if err != nil {
			return err
		}
		w.Header().Set("Location", h.location(k.resourceType, f.id))
		return h.answer(w, http.StatusCreated, k, f, query)
	}
	return notAllowed(w, "GET, POST")
}

func (h *handler) serveOne(w http.ResponseWriter, r *http.Request, k kindOf, id string, query url.Values) error {
	ctx := r.Context()
	if r.Method == http.MethodGet {
		f, err := k.get(ctx, id)
		if err != nil {
			return err
		}
		if tags := r.Header.Get("If-None-Match"); tags != "" && matches(tags, f.version) {
			w.Header().Set("ETag", etag(f.version))
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
		return h.answer(w, http.StatusOK, k, f, query)
	}
	if !slices.Contains([]string{http.MethodPut, http.MethodPatch, http.MethodDelete}, r.Method) {
		return notAllowed(w, "GET, PUT, PATCH, DELETE")
	}
	version, err := h.expected(ctx, r, k, id)
	if err != nil {
		return err
	}
	var edit func(map[string]any) (map[string]any, error)
	switch r.Method {
	case http.MethodDelete:
		if err := k.remove(ctx, actor(r), id); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	case http.MethodPut:
		tree, err := h.body(r, k)
		if err != nil {
			return err
		}
		if err := k.required(tree); err != nil {
			return err
		}
		edit = func(map[string]any) (map[string]any, error) { return clone(tree), nil }
	default:
		body, err := read(r)
		if err != nil {
			return err
		}
		list, err := operations(body)
		if err != nil {
			return err
		}
		edit = func(tree map[string]any) (map[string]any, error) {
			err := k.patch(tree, list)
			return h.ignore(tree), err
		}
	}
	f, err := k.update(ctx, actor(r), id, version, edit)
	if err != nil {
		return err
	}
	return h.answer(w, http.StatusOK, k, f, query)
}

// expected returns the version that If-Match wants to find, 0 for any.
func (h *handler) expected(ctx context.Context, r *http.Request, k kindOf, id string) (int64, error) {
	tags := r.Header.Get("If-Match")
	if tags == "" || strings.TrimSpace(tags) == "*" {
		return 0, nil
	}
	f, err := k.get(ctx, id)
	if err != nil {
		return 0, err
	}
	if !matches(tags, f.version) {
		return 0, identity.ErrChanged
	}
	return f.version, nil
}

// matches looks for the version among entity tags. They are weak ones, and meant
// to be compared all the same (RFC 7644 §3.14).
func matches(tags string, version int64) bool {
	for tag := range strings.SplitSeq(tags, ",") {
		tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
		if tag == "*" || tag == strconv.Quote(strconv.FormatInt(version, 10)) {
			return true
		}
	}
	return false
}

func (h *handler) answerList(w http.ResponseWriter, r *http.Request, k kindOf, query url.Values) error {
	win, err := newWindow(query)
	if err != nil {
		return err
	}
	var f filter
	if s := query.Get("filter"); s != "" {
		if f, err = k.parseFilter(s); err != nil {
			return err
		}
	}
	list, total, err := h.list(r.Context(), k.resourceType, k.read, f, win)
	if err != nil {
		return err
	}
	resources := make([]any, len(list))
	for i, one := range list {
		if resources[i], err = k.project(one, query.Get("attributes"), query.Get("excludedAttributes")); err != nil {
			return err
		}
	}
	return write(w, http.StatusOK, listOf(resources, total, win.start))
}

func listOf(resources []any, total, start int) map[string]any {
	return map[string]any{
		"schemas": []any{listURN}, "totalResults": total, "startIndex": start, "itemsPerPage": len(resources), "Resources": resources,
	}
}

// search is a list asked for by POST: a filter may hold what belongs in no URL
// (RFC 7644 §3.4.3).
func (h *handler) search(w http.ResponseWriter, r *http.Request, k kindOf) error {
	if r.Method != http.MethodPost {
		return notAllowed(w, "POST")
	}
	body, err := read(r)
	if err != nil {
		return err
	}
	query := url.Values{}
	for name, v := range body {
		switch v := v.(type) {
		case string:
			query.Set(name, v)
		case float64:
			query.Set(name, strconv.FormatFloat(v, 'f', -1, 64))
		case []any:
			var names []string
			for _, e := range v {
				if s, ok := e.(string); ok {
					names = append(names, s)
				}
			}
			query.Set(name, strings.Join(names, ","))
		}
	}
	return h.answerList(w, r, k, query)
}

func (h *handler) answer(w http.ResponseWriter, status int, k kindOf, f *found, query url.Values) error {
	out, err := k.project(f.resource, query.Get("attributes"), query.Get("excludedAttributes"))
	if err != nil {
		return err
	}
	w.Header().Set("ETag", etag(f.version))
	return write(w, status, out)
}

// body reads a resource.
func (h *handler) body(r *http.Request, k kindOf) (map[string]any, error) {
	in, err := read(r)
	if err != nil {
		return nil, err
	}
	for name, v := range in {
		if list, ok := v.([]any); strings.EqualFold(name, "schemas") && ok && len(list) > 0 && !slices.Contains(list, any(k.core.urn)) {
			return nil, bad("invalidSyntax", "schemas contains %s.", k.core.urn)
		}
	}
	tree, err := k.resource(in)
	return h.ignore(tree), err
}

// ignore drops a password that is not to be taken.
func (h *handler) ignore(tree map[string]any) map[string]any {
	if !h.cfg.Passwords {
		delete(tree, "password")
	}
	return tree
}

// read reads a JSON object. Names that are there twice and text that is not UTF-8
// are refused by the decoder.
func read(r *http.Request) (map[string]any, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != mediaType && kind != "application/json" {
		return nil, &fault{http.StatusUnsupportedMediaType, "", "The body is " + mediaType + "."}
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, bad("invalidSyntax", "The body ended early.")
	}
	if len(b) > maxBody {
		return nil, &fault{http.StatusRequestEntityTooLarge, "", fmt.Sprintf("A body has at most %d bytes.", maxBody)}
	}
	var out map[string]any
	if err := json.Unmarshal(b, &out); err != nil || out == nil {
		return nil, bad("invalidSyntax", "The body is a JSON object, with no name twice.")
	}
	return out, nil
}

func write(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return fmt.Errorf("scim: %w", err)
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(b) // a caller who has gone needs no answer
	return nil
}

func notAllowed(w http.ResponseWriter, methods string) error {
	w.Header().Set("Allow", methods)
	return &fault{http.StatusMethodNotAllowed, "", "The methods here are " + methods + "."}
}

// refuse answers an error. What is no fault of the caller's is withheld.
func (h *handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	e := gatehouse.EventOf(r.Context())
	e.Reason = "scim_refused"
	e.Cause = err.Error()
	f, ok := asFault(err)
	if !ok {
		e.Reason = "internal"
		f = &fault{http.StatusInternalServerError, "", "Something broke here."}
		if ctxErr := r.Context().Err(); ctxErr != nil && errors.Is(err, ctxErr) {
			f = &fault{http.StatusServiceUnavailable, "", "It took too long."}
		}
	}
	body := map[string]any{"schemas": []any{errorURN}, "status": strconv.Itoa(f.status), "detail": f.detail}
	if f.typ != "" {
		body["scimType"] = f.typ
	}
	if err := write(w, f.status, body); err != nil {
		w.WriteHeader(f.status)
	}
}

// actor is whom the log of changes names.
func actor(r *http.Request) string {
	if s := gatehouse.EventOf(r.Context()).Subject; s != "" {
		return s
	}
	return "scim"
}
