package http1

import "github.com/gatehouse-api/gatehouse"

// A headVerdict is what one check says of a message. The zero verdict refuses:
// a message nobody looked at is never served.
type headVerdict uint8

const (
	headUnchecked headVerdict = iota
	headOK
	headBadLine
	headBadLineEnd
	headBadMethod
	headBadTarget
	headAmbiguousPath
	headTargetTooLong
	headBadVersion
	headBadField
	headFolded
	headUnderscore
	headDuplicate
	headOverride
	headBadHost
	headHostMismatch
	headAmbiguousLength
	headBadCoding
	headBadExpect
	headTooLarge
	headTooManyFields
	headBadChunk
	headTrailer
	headConnectionField
	headSlowBody
)

var headProblems = [...]gatehouse.Problem{
	headUnchecked:       {Kind: gatehouse.Malformed, Reason: "malformed_request", Detail: "The request could not be read."},
	headOK:              {},
	headBadLine:         {Kind: gatehouse.Malformed, Reason: "bad_request_line", Detail: "The request line is not METHOD SP TARGET SP VERSION."},
	headBadLineEnd:      {Kind: gatehouse.Malformed, Reason: "bad_line_end", Detail: "Lines of the head must end in CR LF and hold no other control characters."},
	headBadMethod:       {Kind: gatehouse.NotImplemented, Reason: "method_unknown", Detail: "The method is not GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS."},
	headBadTarget:       {Kind: gatehouse.Malformed, Reason: "bad_target", Detail: "The request target holds characters, escapes or a form that are not allowed."},
	headAmbiguousPath:   {Kind: gatehouse.Malformed, Reason: "ambiguous_path", Detail: "The path could be read in two ways: dot or empty segments, ';', or encoded '/', '\\', '.', '%' or control characters."},
	headTargetTooLong:   {Kind: gatehouse.URITooLong, Reason: "target_too_long", Detail: "The request target is too long."},
	headBadVersion:      {Kind: gatehouse.VersionUnsupported, Reason: "version_unsupported", Detail: "The HTTP version is not supported."},
	headBadField:        {Kind: gatehouse.Malformed, Reason: "bad_header", Detail: "A header line is not NAME: VALUE in the allowed characters."},
	headFolded:          {Kind: gatehouse.Malformed, Reason: "folded_header", Detail: "A header line is continued on a second line."},
	headUnderscore:      {Kind: gatehouse.Malformed, Reason: "underscore_header", Detail: "A header name holds an underscore."},
	headDuplicate:       {Kind: gatehouse.Malformed, Reason: "duplicate_header", Detail: "A header that may occur once occurs more than once."},
	headOverride:        {Kind: gatehouse.Malformed, Reason: "override_header", Detail: "A header asks for another method, path or proxy than the request line."},
	headBadHost:         {Kind: gatehouse.Malformed, Reason: "bad_host", Detail: "The request needs exactly one valid Host."},
	headHostMismatch:    {Kind: gatehouse.Malformed, Reason: "host_mismatch", Detail: "The request names two different hosts."},
	headAmbiguousLength: {Kind: gatehouse.Malformed, Reason: "ambiguous_length", Detail: "The length of the body is not given in exactly one valid way."},
	headBadCoding:       {Kind: gatehouse.NotImplemented, Reason: "transfer_coding_unsupported", Detail: "The only transfer coding taken is chunked."},
	headBadExpect:       {Kind: gatehouse.Malformed, Reason: "expectation_unsupported", Detail: "The only expectation taken is 100-continue."},
	headTooLarge:        {Kind: gatehouse.HeadersTooLarge, Reason: "head_too_large", Detail: "The request head is too large."},
	headTooManyFields:   {Kind: gatehouse.HeadersTooLarge, Reason: "too_many_headers", Detail: "The request has too many headers."},
	headBadChunk:        {Kind: gatehouse.Malformed, Reason: "bad_chunk", Detail: "The chunked body is not well-formed."},
	headTrailer:         {Kind: gatehouse.Malformed, Reason: "trailer_refused", Detail: "Trailers are not taken."},
	headConnectionField: {Kind: gatehouse.Malformed, Reason: "connection_header", Detail: "Connection may name close, keep-alive, upgrade and te only, and HTTP/2 has no such headers."},
	headSlowBody:        {Kind: gatehouse.Malformed, Reason: "body_timeout", Detail: "The body came too slowly."},
}

// problem returns a Problem of its own for each refusal: those who receive it may fill it in.
func (v headVerdict) problem() *gatehouse.Problem {
	p := headProblems[v]
	return &p
}

// Byte classes. A table turns "is it allowed here" into one load, and says the
// whole grammar in one place.
const (
	headToken uint8 = 1 << iota // tchar, RFC 9110 §5.6.2
	headPath                    // pchar without '%', and without ';' (see headCheckPath), RFC 3986 §3.3
	headQuery                   // what a query may hold, see below
	headName                    // of a host: letters, digits, '-', '_'
	headHex
	headPlain // of a path: net/url writes it as it is
)

var headClass = headClasses()

func headClasses() (t [256]uint8) {
	set := func(class uint8, chars string) {
		for i := range len(chars) {
			t[chars[i]] |= class
		}
	}
	const alnum = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	set(headToken, alnum+"!#$%&'*+-.^_`|~")
	set(headPath, alnum+"-._~!$&'()*+,=:@/")
	set(headPlain, alnum+"-._~$&+,:;=@/")
	// Brackets, braces, bars and quotes are not in the RFC's query, but clients
	// send them raw (filter[a]=b) and every parser takes them the same way.
	set(headQuery, alnum+"-._~!$&'()*+,;=:@/?[]{}|\"^`")
	set(headName, alnum+"-_")
	set(headHex, "0123456789abcdefABCDEF")
	return t
}
