package gateway_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse"
)

func TestAServiceInsideRefusesAsTheGatewayDoes(t *testing.T) {
	cause := errors.New("the row is locked")
	h := newInside(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Etag", `"1"`)
		_, _ = io.WriteString(w, `{"half":`)
		w.(interface{ Refuse(p *gatehouse.Problem) }).Refuse(&gatehouse.Problem{
			Kind: gatehouse.PreconditionFailed, Reason: "object_changed", Detail: "Read it again.", Err: cause,
		})
	}, nil)
	a := h.ask("GET", "/orders", "", "Authorization", h.token("ann"))
	body := a.Body.String()
	if a.Code != 412 || a.Header().Get("Content-Type") != "application/problem+json" || a.Header().Get("Etag") != "" || strings.Contains(body, "half") ||
		!strings.Contains(body, `"reason":"object_changed"`) || !strings.Contains(body, `"decision":"`) || strings.Contains(body, cause.Error()) {
		t.Errorf("%d %v %s", a.Code, a.Header(), body)
	}
	if e := h.event(); e.Reason != "object_changed" || e.Cause != cause.Error() || e.Status != 412 || e.Subject != "ann" {
		t.Errorf("%+v", e)
	}
}
