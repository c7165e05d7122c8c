package oauth

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/gatehouse-api/gatehouse"
)

// An Error is what a client is told (RFC 6749 §5.2 and its extensions).
type Error struct {
	Code        string // registered error code: invalid_request, invalid_grant, use_dpop_nonce, …
	Description string // one safe sentence in ASCII without " and \ (RFC 6749 §5.2)
	Status      int    // 0: 400
	Challenge   string // WWW-Authenticate, for invalid_client and the like
	Nonce       string // DPoP-Nonce (RFC 9449 §8)
	Event       string // reason in the event, where it says more than Code; "": Code
	Err         error  // the cause, for the operator only
}

// Error gives the operator's view.
func (e *Error) Error() string {
	switch {
	case e.Err != nil:
		return e.Code + ": " + e.Err.Error()
	case e.Description != "":
		return e.Code + ": " + e.Description
	}
	return e.Code
}

// Unwrap returns the hidden cause.
func (e *Error) Unwrap() error { return e.Err }

// refuse makes the common kind of Error.
func refuse(code, description string) *Error { return &Error{Code: code, Description: description} }

// because adds the cause, which only the operator reads.
func (e *Error) because(err error) *Error {
	e.Err = err
	return e
}

// asError finds the Error in err's chain. What was never classified is
// server_error with its cause hidden: 503, so that clients try again later, since
// nothing of theirs was wrong.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Code: "server_error", Description: "The server cannot answer at the moment.", Status: http.StatusServiceUnavailable, Err: err}
}

// fail writes err as the JSON of RFC 6749 §5.2 and notes it in the request's event.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	e := asError(err)
	e.note(r)
	h := w.Header()
	if e.Challenge != "" {
		h.Set("WWW-Authenticate", e.Challenge)
	}
	if e.Nonce != "" {
		h.Set("DPoP-Nonce", e.Nonce)
	}
	status := e.Status
	if status == 0 {
		status = http.StatusBadRequest
	}
	answer(w, status, map[string]string{"error": e.Code, "error_description": e.Description})
}

// note fills in the request's event.
func (e *Error) note(r *http.Request) {
	ev := gatehouse.EventOf(r.Context())
	ev.Reason, ev.Cause = orElse(e.Event, e.Code), e.Description
	if e.Err != nil {
		ev.Cause = e.Err.Error()
	}
}

// answer writes v as JSON that nobody may keep.
func answer(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil { // only what we made is marshalled here
		status, b = http.StatusInternalServerError, []byte(`{"error":"server_error"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(b) // the client may be gone
}
