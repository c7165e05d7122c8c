package validate

import "cmp"

// An Upload bounds a multipart/form-data body, beside MaxBody, which bounds the
// whole. Zero fields take the default.
type Upload struct {
	MaxParts   int      // parts of one body; 64
	MaxFile    int64    // bytes of one file; MaxBody
	MaxField   int64    // bytes of one part that is no file; 65,536
	Memory     int64    // bytes that are held until all is checked; a file beyond it streams; 1,048,576
	Extensions []string // of file names that are refused, without dot, in lower case; nil: [RefusedExtensions]; empty: none
}

func (u *Upload) defaults(maxBody int64) {
	u.MaxParts = cmp.Or(u.MaxParts, 64)
	u.MaxFile = cmp.Or(u.MaxFile, max(maxBody, 0))
	u.MaxField = cmp.Or(u.MaxField, 64<<10)
	u.Memory = cmp.Or(u.Memory, 1<<20)
	if u.Extensions == nil {
		u.Extensions = RefusedExtensions()
	}
}

// A GRPC bounds the messages of one gRPC stream, beside MaxBody, which bounds
// them together. Zero fields take the default.
type GRPC struct {
	MaxMessage  int64 // bytes of one message; 1,048,576
	MaxMessages int   // of one request; 0: as many as MaxBody has room for
	Compressed  bool  // take messages that are compressed, which only the service can open
}

// A GraphQL bounds the documents of a GraphQL endpoint. Zero fields take the
// default; below zero none is taken.
type GraphQL struct {
	Depth         int      // fields inside one another, fragments unfolded; 12
	Aliases       int      // fields renamed, fragments unfolded; 20
	RootFields    int      // of one operation; 10
	Cost          int      // of one request: a field is one, times what first, last or limit ask for around it; 1,000
	Tokens        int      // of one document; 2,000
	Directives    int      // of one document; 20
	Batch         int      // documents in one request; 5
	Introspection bool     // let callers ask for the schema
	Operations    []string // SHA-256, in hex, of the only documents taken: persisted operations; nil: any
	Persisted     bool     // let a request name a document by its SHA-256 alone (automatic persisted queries); it costs as much as Cost
}

// LeakOptions say which leak rules look at answers, and at how much of them.
type LeakOptions struct {
	Without []string // names of rules that are not asked: see [LeakRules]
	Bytes   int      // of an answer that are looked at, from its beginning; 0: 65,536
}
