package server

import (
	"net/http"
	"testing"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/config"
)

func TestDetailsAreForTheOperator(t *testing.T) {
	token := &config.Secret{Secret: gatehouse.NewSecret("0123456789abcdef")}
	for _, tt := range []struct {
		name, host, authorization string
		token                     *config.Secret
		want                      bool
	}{
		{"without a token this machine sees them", "127.0.0.1:9443", "", nil, true},
		{"by its name", "LOCALHOST:9443", "", nil, true},
		{"without a port", "localhost", "", nil, true},
		{"over IPv6", "[::1]:9443", "", nil, true},
		{"over IPv6 without a port", "[::1]", "", nil, true},
		{"a name that somebody else made resolve to it does not", "evil.example:9443", "", nil, false},
		{"nor one that begins like it", "127.0.0.1.evil.example", "", nil, false},
		{"nor another address", "10.0.0.1:9443", "", nil, false},
		{"nor none", "", "", nil, false},
		{"with a token its bearer sees them under any name", "gate.example", "Bearer 0123456789abcdef", token, true},
		{"nobody else does", "127.0.0.1:9443", "", token, false},
		{"nor another token", "127.0.0.1:9443", "Bearer 0123456789abcdeF", token, false},
		{"nor another scheme", "127.0.0.1:9443", "Basic 0123456789abcdef", token, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := &http.Request{Host: tt.host, Header: http.Header{"Authorization": {tt.authorization}}}
			if got := (&runner{token: tt.token}).operator(q); got != tt.want {
				t.Errorf("got %t", got)
			}
		})
	}
}
