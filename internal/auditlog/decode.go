package auditlog

import (
	"encoding/json"
	"fmt"
	"time"

	gatehouse "github.com/gatehouse-api/gatehouse"
)

// line is an event as it is written.
type line struct {
	ID        string                 `json:"id"`
	Time      time.Time              `json:"time"`
	Node      string                 `json:"node"`
	Config    string                 `json:"config"`
	Address   string                 `json:"address"`
	Host      string                 `json:"host"`
	Method    string                 `json:"method"`
	Path      string                 `json:"path"`
	Protocol  string                 `json:"protocol"`
	TLS       string                 `json:"tls"`
	API       string                 `json:"api"`
	Operation string                 `json:"operation"`
	Subject   string                 `json:"subject"`
	Issuer    string                 `json:"issuer"`
	Client    string                 `json:"client"`
	Auth      gatehouse.Method       `json:"auth"`
	KeyID     string                 `json:"key_id"`
	Allow     bool                   `json:"allow"`
	Status    int                    `json:"status"`
	Reason    string                 `json:"reason"`
	Cause     string                 `json:"cause"`
	Reasons   []gatehouse.Reason     `json:"reasons"`
	Fields    []gatehouse.FieldError `json:"fields"`
	Reported  []gatehouse.FieldError `json:"reported"`
	Score     int                    `json:"score"`
	Matches   []gatehouse.Match      `json:"matches"`
	Truncated bool                   `json:"truncated"`
	Upstream  string                 `json:"upstream"`
	Cache     string                 `json:"cache"`
	Duration  int64                  `json:"duration_ns"`
	Service   int64                  `json:"service_ns"`
	In        int64                  `json:"in"`
	Out       int64                  `json:"out"`
	TraceID   string                 `json:"trace_id"`
}

// decodeEvent reads what AppendEvent wrote.
func decodeEvent(b []byte) (*gatehouse.Event, error) {
	var l line
	if err := json.Unmarshal(b, &l); err != nil {
		return nil, fmt.Errorf("auditlog: a line is damaged: %w", err)
	}
	return &gatehouse.Event{
		ID: l.ID, Time: l.Time, Node: l.Node, Config: l.Config, Address: l.Address, Host: l.Host,
		Method: l.Method, Path: l.Path, Protocol: l.Protocol, TLS: l.TLS, API: l.API, Operation: l.Operation,
		Subject: l.Subject, Issuer: l.Issuer, Client: l.Client, Auth: l.Auth, KeyID: l.KeyID,
		Allow: l.Allow, Status: l.Status, Reason: l.Reason, Cause: l.Cause,
		Reasons: l.Reasons, Fields: l.Fields, Reported: l.Reported, Score: l.Score, Matches: l.Matches, Upstream: l.Upstream, Cache: l.Cache,
		Duration: time.Duration(l.Duration), Service: time.Duration(l.Service), In: l.In, Out: l.Out, TraceID: l.TraceID,
	}, nil
}
