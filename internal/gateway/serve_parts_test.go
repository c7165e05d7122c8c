package gateway_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/token"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

func newRecorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }

func onRoute(do func(*gateway.Route)) func(*houseConfig) {
	return func(c *houseConfig) { c.routes = func(r map[string]*gateway.Route) { do(r["listOrders"]) } }
}

func zeroPolicy() *authz.Policy { return new(authz.Policy) }

func emptyRouter() validate.Router { return validate.Router{} }

// unreachable is the network to an issuer that is down.
type unreachable struct{}

func (unreachable) Fetch(context.Context, string) ([]byte, http.Header, error) {
	return nil, nil, errors.New("connection refused")
}

func keysOfNobody(t testing.TB) *token.KeySet {
	return must[*token.KeySet](t)(token.NewKeySet(token.KeySetConfig{URL: houseIssuer + "/keys"}, unreachable{}))
}

func failingMinter(*token.Signer) gateway.Minter { return minterOf{errors.New("no signing key")} }

type minterOf struct{ err error }

func (m minterOf) Mint(*gatehouse.Principal, string) (string, error) { return "", m.err }

// rawAsk sends bytes no client library would and gives what comes back.
func rawAsk(t testing.TB, url, b string) string {
	t.Helper()
	c := must[net.Conn](t)(net.Dial("tcp", strings.TrimPrefix(url, "http://")))
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, b); err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(c)
	return string(got)
}

// answering is a service without garbage of its own: whatever comes, in one
// piece, is answered.
func answering(tb testing.TB) string {
	l := must[net.Listener](tb)(net.Listen("tcp", "127.0.0.1:0"))
	tb.Cleanup(func() { _ = l.Close() })
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"count\":1}")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 8<<10)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}
