package admin

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

func (a *api) listClients(c *call) (answer, error) {
	after, err := a.after(c)
	if err != nil {
		return answer{}, err
	}
	all, err := a.OAuth.Clients(c.Context()) // by id
	if err != nil {
		return answer{}, err
	}
	search := strings.ToLower(c.URL.Query().Get("search"))
	p, items, limit := page{}, []oauth.Client{}, c.limit()
	for i := range all {
		if search != "" && !strings.Contains(strings.ToLower(all[i].ID+"\n"+all[i].ClientName), search) {
			continue
		}
		p.Total++
		switch {
		case all[i].ID <= after:
		case len(items) < limit:
			items = append(items, all[i])
		case p.Next == "":
			if p.Next, err = a.next(c, items[limit-1].ID); err != nil {
				return answer{}, err
			}
		}
	}
	p.Items = items
	return answer{body: p}, nil
}

// clientBody is a client as it comes in: RFC 7591 metadata, with our own members.
type clientBody struct {
	ID string `json:"client_id"` // of a new one; "": made

	oauth.Metadata
}

// A newClient is a client with its secret, which is shown this once.
type newClient struct {
	oauth.Client

	Secret string `json:"client_secret,omitempty"`
}

func clientPath(id string) string { return "/clients/" + url.PathEscape(id) }

func (a *api) createClient(c *call) (answer, error) {
	var in clientBody
	if err := c.read(&in); err != nil {
		return answer{}, err
	}
	if err := a.known(in.Roles); err != nil {
		return answer{}, err
	}
	if err := a.mayClient(c, &in.Metadata); err != nil {
		return answer{}, err
	}
	secret, made, err := a.OAuth.CreateClient(c.Context(), c.actor, in.ID, in.Metadata)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusCreated, body: newClient{*made, secret.Reveal()}, version: made.Version, location: clientPath(made.ID)}, nil
}

func (a *api) getClient(c *call) (answer, error) {
	client, err := a.OAuth.Client(c.Context(), c.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	return answer{body: client, version: client.Version}, nil
}

// client is a client that the caller may change.
func (a *api) client(c *call, version int64) (*oauth.Client, error) {
	client, err := a.OAuth.Client(c.Context(), c.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if version != 0 && version != client.Version {
		return nil, oauth.ErrClientChanged
	}
	return client, a.mayClient(c, &client.Metadata)
}

func (a *api) replaceClient(c *call) (answer, error) {
	var in clientBody
	if err := c.read(&in); err != nil {
		return answer{}, err
	}
	version, err := c.version()
	if err != nil {
		return answer{}, err
	}
	if in.ID != "" && in.ID != c.PathValue("id") {
		return answer{}, &gatehouse.Problem{Kind: gatehouse.Unprocessable, Reason: "object_refused", Detail: "The id of a client never changes."}
	}
	if err := a.known(in.Roles); err != nil {
		return answer{}, err
	}
	old, err := a.client(c, version)
	if err != nil {
		return answer{}, err
	}
	if err := a.mayClient(c, &in.Metadata); err != nil {
		return answer{}, err
	}
	// The version that was judged, and no other.
	client, err := a.OAuth.UpdateClient(c.Context(), c.actor, old.ID, old.Version, in.Metadata)
	if err != nil {
		return answer{}, err
	}
	return answer{body: client, version: client.Version}, nil
}

func (a *api) deleteClient(c *call) (answer, error) {
	version, err := c.version()
	if err != nil {
		return answer{}, err
	}
	old, err := a.client(c, version)
	if err != nil {
		return answer{}, err
	}
	return answer{}, a.OAuth.DeleteClient(c.Context(), c.actor, old.ID)
}

func (a *api) disableClient(c *call) (answer, error) {
	if err := a.OAuth.DisableClient(c.Context(), c.actor, c.PathValue("id")); err != nil {
		return answer{}, err
	}
	return a.getClient(c)
}

func (a *api) enableClient(c *call) (answer, error) {
	old, err := a.client(c, 0)
	if err != nil {
		return answer{}, err
	}
	if err := a.OAuth.EnableClient(c.Context(), c.actor, old.ID); err != nil {
		return answer{}, err
	}
	return a.getClient(c)
}

// overlap is how long the old one of two goes on working.
type overlap struct {
	Seconds int64 `json:"overlap"`
}

func (o overlap) life() time.Duration {
	const most = 366 * 24 * 60 * 60 // what is longer is refused, and must not overflow
	return time.Duration(min(max(o.Seconds, -1), most)) * time.Second
}

func (a *api) addSecret(c *call) (answer, error) {
	var in overlap
	if err := c.read(&in); err != nil {
		return answer{}, err
	}
	client, err := a.client(c, 0)
	if err != nil {
		return answer{}, err
	}
	secret, made, err := a.OAuth.AddSecret(c.Context(), c.actor, client.ID, in.life())
	if err != nil {
		return answer{}, err
	}
	body := struct {
		oauth.Secret

		Text string `json:"client_secret"`
	}{*made, secret.Reveal()}
	return answer{status: http.StatusCreated, body: body, location: clientPath(client.ID)}, nil
}

func (a *api) revokeSecret(c *call) (answer, error) {
	return answer{}, a.OAuth.RevokeSecret(c.Context(), c.actor, c.PathValue("id"), c.PathValue("secret"))
}
