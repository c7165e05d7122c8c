package http1

import (
	"net/http"
	"strings"
)

// CheckRequest holds a request that net/http has parsed to the rules the head
// check has for bytes: method list, target, Host, header names, headers that
// may occur once. HTTP/2 requests never pass the byte check, so the gateway
// calls it for every request, before matching. The error is a
// *gatehouse.Problem. It does not allocate for a request it accepts.
func CheckRequest(r *http.Request) error {
	if v := headCheckRequest(r); v != headOK {
		return v.problem()
	}
	return nil
}

func headCheckRequest(r *http.Request) headVerdict {
	if !headMethodKnown(r.Method) {
		return headBadMethod
	}
	if len(r.RequestURI) > headMaxTarget {
		return headTargetTooLong
	}
	v, from, to := headCheckTarget(r.Method, r.RequestURI)
	switch {
	case v != headOK:
		return v
	case !headHostOK(r.Host):
		return headBadHost
	case from != to && (r.ProtoMajor > 1 || !headSame(r.RequestURI[from:to], r.Host)):
		return headHostMismatch
	case len(r.Trailer) > 0: // announced: net/http has moved them out of Header
		return headTrailer
	}
	fields := 0
	for name, values := range r.Header {
		if strings.IndexByte(name, '_') >= 0 {
			return headUnderscore
		}
		if fields += len(values); fields > headMaxFields {
			return headTooManyFields
		}
		once, v := headField(name)
		switch {
		case v != headOK:
			return v
		case once == headSeenConnection:
			for _, value := range values {
				if !headConnectionOK(value) {
					return headConnectionField
				}
			}
		case once != 0 && len(values) > 1:
			return headDuplicate
		case once == headSeenHost && (len(values) == 0 || !headSame(values[0], r.Host)):
			return headHostMismatch // HTTP/2 may carry both :authority and host (RFC 9113 §8.3.1)
		case once == headSeenExpect && (len(values) == 0 || !headFold(values[0], "100-continue")):
			return headBadExpect
		}
		if r.ProtoMajor > 1 {
			if v := headCheckField2(name, values); v != headOK {
				return v
			}
		}
	}
	return headOK
}

// headCheckField2 repeats for HTTP/2 what net/http is expected to have refused
// already (RFC 9113 §8.2): once such a request is written to an HTTP/1.1
// service, these are the bytes that split it in two.
func headCheckField2(name string, values []string) headVerdict {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade":
		return headConnectionField
	case "Te":
		if len(values) != 1 || values[0] != "trailers" {
			return headConnectionField
		}
	}
	for _, value := range values {
		for i := range len(value) {
			if c := value[i]; c < 0x20 && c != '\t' || c == 0x7f {
				return headBadField
			}
		}
	}
	return headOK
}
