package auditlog

// The encoder is fuzzed without a disk.
var (
	AppendEvent = appendEvent
	DecodeEvent = decodeEvent
)
