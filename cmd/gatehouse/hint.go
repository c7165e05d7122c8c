package main

import (
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/fleet"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/posture/attack"
	"github.com/gatehouse-api/gatehouse/internal/server"
)

// A hintError is an error with a way out, printed on a line of its own.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

// hintFor is the way out of err: its own, or that of what the operating system
// said; "" if none is known. config is the path of the config.
func hintFor(err error, config string) string {
	if h, ok := errors.AsType[*hintError](err); ok {
		return h.hint
	}
	path, _ := errors.AsType[*fs.PathError](err)
	switch {
	case errors.Is(err, attack.ErrNotURL):
		return "it is like http://127.0.0.1:8080"
	case errors.Is(err, attack.ErrNoOperation):
		return "it must be an OpenAPI 3 document with paths"
	case errors.Is(err, attack.ErrNotProved):
		return "the word is a new one each time; behind a gateway declare GET " + attack.ProofPath + " as a public operation"
	case errors.Is(err, attack.ErrNoAnswer):
		return "start it first: gatehouse serve, or gatehouse demo; --config says which one"
	case errors.Is(err, server.ErrNoOAuth):
		return "say under which URL people and programs reach it: oauth: {issuer: \"https://…\"} in " + config
	case errors.Is(err, server.ErrNoFleet):
		return "fleet: {key: \"${file:fleet.key}\"} makes it one of several; see \"Several nodes\" in docs/operations.md"
	case errors.Is(err, fleet.ErrPushed):
		return "see what it is with 'gatehouse fleet history', and push again if yours shall replace it"
	case errors.Is(err, fleet.ErrNoConfig):
		return "'gatehouse fleet history' lists them, 'gatehouse fleet push FILE' stores one"
	case errors.Is(err, identity.ErrChanged), errors.Is(err, oauth.ErrClientChanged):
		return "somebody else was faster; look at it again and repeat"
	case errors.Is(err, ddos.ErrNoBan):
		return "an IPv6 address stands for its /64; a network is lifted as it was banned"
	case errors.Is(err, identity.ErrLast):
		return "give the user a password first: gatehouse users password NAME"
	case errors.Is(err, fs.ErrNotExist) && path != nil && sameFile(path.Path, config):
		return "write one for your API with 'gatehouse init openapi.yaml --upstream URL', or name yours with --config; 'gatehouse demo' needs none"
	case errors.Is(err, syscall.EADDRINUSE):
		return "end what listens there, or change the address in " + config
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this machine does not have that address: change it in " + config
	case errors.Is(err, syscall.EWOULDBLOCK):
		return "a data folder has one gateway: end the other, or give this one its own folder under data: in " + config
	case errors.Is(err, syscall.ENOSPC):
		return "make room: a gateway that cannot record does not serve"
	case errors.Is(err, fs.ErrPermission) && path != nil:
		return "run as the user who owns " + path.Path + ", or give this user access to it"
	case errors.Is(err, fs.ErrPermission):
		return "ports below 1024 need a right (CAP_NET_BIND_SERVICE): grant it, or choose a higher port in " + config
	}
	return ""
}

func sameFile(a, b string) bool {
	a, errA := filepath.Abs(a)
	b, errB := filepath.Abs(b)
	return errA == nil && errB == nil && a == b
}
