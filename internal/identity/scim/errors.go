package scim

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/gatehouse-api/gatehouse/internal/identity"
)

// A fault is a refusal that the caller sees (RFC 7644 §3.12).
type fault struct {
	status int
	typ    string // scimType
	detail string
}

func (f *fault) Error() string { return f.typ + ": " + f.detail }

func bad(typ, format string, args ...any) *fault {
	return &fault{http.StatusBadRequest, typ, fmt.Sprintf(format, args...)}
}

// asFault says what an error is to the caller; false for one that is ours to mend.
func asFault(err error) (*fault, bool) {
	if f, ok := errors.AsType[*fault](err); ok {
		return f, true
	}
	switch {
	case errors.Is(err, identity.ErrUnknown):
		return &fault{http.StatusNotFound, "", "There is no such resource."}, true
	case errors.Is(err, identity.ErrTaken):
		return &fault{http.StatusConflict, "uniqueness", "The name or the address is taken."}, true
	case errors.Is(err, identity.ErrChanged):
		return &fault{http.StatusPreconditionFailed, "", "The resource has another version."}, true
	case errors.Is(err, identity.ErrPassword):
		return bad("invalidValue", "The password is refused: %s.", err), true
	case errors.Is(err, identity.ErrInvalid):
		return bad("invalidValue", "%s.", err), true
	}
	return nil, false
}
