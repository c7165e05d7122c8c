package demo

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/gatehouse-api/gatehouse/internal/store"
)

// OpenAPI holds the OpenAPI 3.1 documents of the API: orders.openapi.yaml, and
// shop.openapi.yaml for what is around the orders.
//
//go:embed orders.openapi.yaml shop.openapi.yaml
var OpenAPI embed.FS

//go:embed migrations
var migrations embed.FS

// bodyLimit is the only limit here, and there for the reader's machine.
const bodyLimit = 1 << 20

// An API is the order API over one database.
type API struct {
	db      *store.DB
	files   *os.Root
	closed  chan struct{}
	closing sync.Once

	mu        sync.Mutex
	listeners map[chan []byte]struct{} // of order events
}

// New opens the database in the folder dir, orders.db, and makes and seeds it
// when it is new: three customers (alice, bob, carol) and eight orders.
func New(ctx context.Context, dir string) (*API, error) {
	if dir == "" {
		return nil, errors.New("demo: no folder to keep orders.db in")
	}
	db, err := store.Open(ctx, store.Config{Path: filepath.Join(dir, "orders.db")})
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	if err := db.Migrate(ctx, store.RoomOf("demo", migrations)); err != nil {
		return nil, errors.Join(fmt.Errorf("demo: %w", err), db.Close())
	}
	files, err := furnish(filepath.Join(dir, "files"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("demo: %w", err), db.Close())
	}
	return &API{db: db, files: files, closed: make(chan struct{}), listeners: map[chan []byte]struct{}{}}, nil
}

// furnish makes the folder of documents: one for everybody, and one that is not.
func furnish(dir string) (*os.Root, error) {
	if err := os.MkdirAll(filepath.Join(dir, "public"), 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return root, errors.Join(
		root.WriteFile("public/terms.txt", []byte("Everything is sold as it is.\n"), 0o600),
		root.WriteFile("partners.txt", []byte("planted: the partner's password is correct-horse-4711\n"), 0o600),
	)
}

// Close ends event streams and closes the database.
func (a *API) Close() error {
	a.closing.Do(func() { close(a.closed) })
	return errors.Join(a.files.Close(), a.db.Close())
}

// Handler serves the API to callers on loopback.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /health":                        a.health,
		"GET /orders":                        a.listOrders,
		"POST /orders":                       a.createOrder,
		"GET /orders/events":                 a.orderEvents,
		"GET /orders/{orderId}":              a.getOrder,
		"POST /orders/{orderId}/refunds":     a.refundOrder,
		"GET /customers/{customerId}":        a.getCustomer,
		"PATCH /customers/{customerId}":      a.updateCustomer,
		"GET /customers/{customerId}/orders": a.listCustomerOrders,
		"GET /shop/orders/{orderId}/receipt": a.receipt,
		"POST /shop/orders/search":           a.searchOrders,
		"POST /shop/orders/import":           a.importOrder,
		"POST /shop/login":                   a.login,
		"GET /shop/me":                       a.me,
		"POST /shop/me/email":                a.changeEmail,
		"GET /shop/directory":                a.directory,
		"GET /shop/documents":                a.document,
		"GET /shop/go":                       a.redirect,
		"POST /shop/reviews/preview":         a.preview,
		"POST /shop/tools/label":             a.label,
		"POST /shop/tools/letter":            a.letter,
		"GET /debug/env":                     a.environment,
		"TRACE /{path...}":                   a.trace,
		"GET /greet":                         a.greet,
		"POST /tools/ping":                   a.ping,
		"GET /admin/export":                  a.export,
	} {
		mux.HandleFunc(pattern, careless(h))
	}
	mux.Handle("GET /files/", http.StripPrefix("/files", http.FileServerFS(a.files.FS()))) // INTENTIONALLY VULNERABLE: lists the folder
	return guard(http.NewCrossOriginProtection().Handler(talkative(mux)))
}

// guard protects the reader's machine, not the API: without it, a web page
// could use the reader's browser to reach the shell in [API.ping], directly or
// by pointing its own name at 127.0.0.1 (DNS rebinding).
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		host := r.Host
		if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
			host = host[:i]
		}
		name, errName := netip.ParseAddr(strings.Trim(host, "[]"))
		if err != nil || !peer.Addr().Unmap().IsLoopback() || host != "localhost" && (errName != nil || !name.Unmap().IsLoopback()) {
			http.Error(w, "The demo API answers callers on this machine only: it is intentionally vulnerable.", http.StatusForbidden)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, bodyLimit)
		next.ServeHTTP(w, r)
	})
}

// careless turns errors and panics into answers.
//
// INTENTIONALLY VULNERABLE: the answer tells the error, the SQL and the stack.
func careless(h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v != nil {
				http.Error(w, fmt.Sprintf("panic: %v\n\n%s", v, debug.Stack()), http.StatusInternalServerError)
			}
		}()
		err := h(w, r)
		switch {
		case err == nil:
		case errors.Is(err, sql.ErrNoRows):
			answer(w, http.StatusNotFound, map[string]any{"error": "not found"})
		default:
			http.Error(w, fmt.Sprintf("error: %v\n\n%s", err, debug.Stack()), http.StatusInternalServerError)
		}
	}
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the caller may have gone
}

// rows runs a query and returns every column of every row by its name.
func (a *API) rows(ctx context.Context, query string, args ...any) ([]map[string]any, error) {
	out := []map[string]any{}
	err := a.db.Read(ctx, func(tx *sql.Tx) error {
		rs, err := tx.QueryContext(ctx, query, args...)
		if err != nil {
			return fmt.Errorf("%w in %s", err, query)
		}
		defer func() { _ = rs.Close() }()
		names, err := rs.Columns()
		if err != nil {
			return err
		}
		for rs.Next() {
			values := make([]any, len(names))
			targets := make([]any, len(names))
			for i := range values {
				targets[i] = &values[i]
			}
			if err := rs.Scan(targets...); err != nil {
				return err
			}
			row := make(map[string]any, len(names))
			for i, n := range names {
				row[n] = values[i]
			}
			out = append(out, row)
		}
		return rs.Err()
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// row is rows for what there is one of; sql.ErrNoRows if there is none.
func (a *API) row(ctx context.Context, query string, args ...any) (map[string]any, error) {
	all, err := a.rows(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, sql.ErrNoRows
	}
	return all[0], nil
}

func (a *API) exec(ctx context.Context, query string, args ...any) error {
	return a.db.Write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, query, args...); err != nil {
			return fmt.Errorf("%w in %s", err, query)
		}
		return nil
	})
}
