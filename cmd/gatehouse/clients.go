package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

type clientsCmd struct {
	Create  clientsCreateCmd  `cmd:"" help:"Register a client. Its secret is shown once."`
	List    clientsListCmd    `cmd:"" help:"List clients."`
	Show    clientsShowCmd    `cmd:"" help:"Show a client, as RFC 7591 has it; never its secret."`
	Set     clientsSetCmd     `cmd:"" help:"Change a client."`
	Secret  clientsSecretCmd  `cmd:"" help:"Add and revoke secrets of a client."`
	Disable clientsDisableCmd `cmd:"" help:"Shut a client out at once: no token, no grant."`
	Enable  clientsEnableCmd  `cmd:"" help:"Let a disabled client work again."`
	Delete  clientsDeleteCmd  `cmd:"" help:"Remove a client for good; its id is never given again."`
}

// clientFlags are what people need most of a client's metadata. All of it is in a file.
type clientFlags struct {
	File         string   `arg:"" optional:"" help:"Metadata as JSON (RFC 7591); - reads standard input. Flags are put on top of it."`
	Name         *string  `help:"Name for people."`
	RedirectURI  []string `help:"Where codes go; repeat for several."`
	LogoutURI    []string `help:"Where browsers may go after signing out; repeat for several."`
	BackLogout   *string  `name:"backchannel-logout-uri" placeholder:"URL" help:"Told when a session ends."`
	Grant        []string `help:"authorization_code, refresh_token, client_credentials, device, exchange; repeat for several."`
	AuthMethod   *string  `help:"client_secret_basic, client_secret_post, private_key_jwt, tls_client_auth, self_signed_tls_client_auth, none."`
	Scope        []string `help:"Scope it may ask for; repeat for several."`
	Role         []string `help:"Role of its own, for client_credentials; repeat for several."`
	Resource     []string `help:"Resource it may ask tokens for; repeat for several."`
	JWKS         string   `name:"jwks" type:"existingfile" placeholder:"FILE" help:"File with its public keys."`
	JWKSURI      *string  `name:"jwks-uri" placeholder:"URL" help:"Where its public keys are."`
	Tenant       *string  `help:"Tenant."`
	DPoP         *bool    `name:"dpop" negatable:"" help:"Its tokens are bound to its DPoP key."`
	MTLS         *bool    `name:"mtls" negatable:"" help:"Its tokens are bound to its certificate."`
	PAR          *bool    `name:"par" negatable:"" help:"It must push its requests (RFC 9126)."`
	Native       bool     `help:"An application on the user's device."`
	Trusted      *bool    `negatable:"" help:"It is our own: nobody is asked for consent."`
	ExchangeFrom []string `placeholder:"CLIENT" help:"Client whose tokens it may exchange; repeat for several."`
}

// metadata puts the flags on what there is.
func (c *clientFlags) metadata(o *office, m oauth.Metadata) (oauth.Metadata, error) {
	if c.File != "" {
		m = oauth.Metadata{}
		b, err := readDocument(c.File, o.std.in)
		if err != nil {
			return m, err
		}
		if err := strictMetadata(b, &m); err != nil {
			return m, fmt.Errorf("%s: %w", c.File, err)
		}
	}
	for to, from := range map[*string]*string{
		&m.ClientName: c.Name, &m.TokenEndpointAuthMethod: c.AuthMethod, &m.JWKSURI: c.JWKSURI, &m.Tenant: c.Tenant, &m.BackchannelLogoutURI: c.BackLogout,
	} {
		if from != nil {
			*to = *from
		}
	}
	for to, from := range map[*bool]*bool{&m.DPoPBoundTokens: c.DPoP, &m.TLSBoundTokens: c.MTLS, &m.RequirePAR: c.PAR, &m.Trusted: c.Trusted} {
		if from != nil {
			*to = *from
		}
	}
	for to, from := range map[*[]string][]string{
		&m.RedirectURIs: c.RedirectURI, &m.PostLogoutRedirectURIs: c.LogoutURI, &m.Roles: c.Role, &m.Resources: c.Resource, &m.Exchange: c.ExchangeFrom,
	} {
		if len(from) > 0 {
			*to = from
		}
	}
	if len(c.Scope) > 0 {
		m.Scope = strings.Join(c.Scope, " ")
	}
	if len(c.Grant) > 0 {
		m.GrantTypes = nil
		for _, g := range c.Grant {
			if long := (map[string]string{
				"device": "urn:ietf:params:oauth:grant-type:device_code", "exchange": "urn:ietf:params:oauth:grant-type:token-exchange",
			})[g]; long != "" {
				g = long
			}
			m.GrantTypes = append(m.GrantTypes, g)
		}
		m.ResponseTypes = nil // they follow
	}
	if c.Native {
		m.ApplicationType = "native"
	}
	if c.JWKS != "" {
		b, err := os.ReadFile(c.JWKS)
		if err != nil {
			return m, err
		}
		m.JWKS = b
	}
	return m, o.known(m.Roles)
}

const maxDocument = 1 << 20

// readDocument reads a file, or standard input.
func readDocument(name string, in io.Reader) ([]byte, error) {
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	return io.ReadAll(io.LimitReader(in, maxDocument))
}

// strictMetadata refuses members that nobody knows: a misspelt one would be a rule
// that is not there.
func strictMetadata(b []byte, m *oauth.Metadata) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	err := dec.Decode(m)
	if err == nil {
		return nil
	}
	_, name, unknown := strings.Cut(err.Error(), `unknown field "`)
	if name = strings.TrimSuffix(name, `"`); !unknown {
		return err
	}
	var known []string
	for f := range reflect.TypeFor[oauth.Metadata]().Fields() {
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		known = append(known, tag)
	}
	return fmt.Errorf("there is no metadata %q%s", name, config.DidYouMean(name, known))
}

type clientsCreateCmd struct {
	clientFlags

	ID   string `placeholder:"ID" help:"Client id. Default: made."`
	Save string `placeholder:"FILE" help:"Write the secret into this file (mode 0600) instead of showing it."`
}

func (clientsCreateCmd) Help() string {
	return "The secret goes to standard output, everything else to standard error; a client that has none gives its id. Only the hash of a secret is kept.\n\nExample:\n  gatehouse clients create --id shop --name Shop --redirect-uri https://shop.example/callback --scope openid --scope profile"
}

type clientView struct {
	*oauth.Client

	Secret string `json:"client_secret,omitempty"`
}

// Run registers the client.
func (c *clientsCreateCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		m, err := c.metadata(o, oauth.Metadata{})
		if err != nil {
			return err
		}
		if m.TokenEndpointAuthMethod != "" && !strings.HasPrefix(m.TokenEndpointAuthMethod, "client_secret_") {
			if c.Save != "" {
				return fmt.Errorf("--save: a client that proves itself by %s has no secret", m.TokenEndpointAuthMethod)
			}
			_, made, err := o.OAuth.CreateClient(ctx, o.actor, c.ID, m)
			if err != nil {
				return err
			}
			return o.made(clientView{made, ""}, made.ID, "client %s", made.ID)
		}
		return handOver(cli, std, c.Save, func() (*handed, error) {
			secret, made, err := o.OAuth.CreateClient(ctx, o.actor, c.ID, m)
			return handedClient(secret, made, err)
		})
	})
}

func handedClient(secret gatehouse.Secret, c *oauth.Client, err error) (*handed, error) {
	if err != nil {
		return nil, err
	}
	return &handed{
		secret: secret, what: "client " + c.ID, undo: "give it another with 'gatehouse clients secret add " + c.ID + "'",
		view: func(shown string) any { return clientView{c, shown} },
	}, nil
}

type clientsListCmd struct {
	Search string `help:"A part of id or name."`
}

func (clientsListCmd) Help() string { return "Example:\n  gatehouse clients list" }

// Run lists the clients.
func (c *clientsListCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		all, err := o.OAuth.Clients(ctx)
		if err != nil {
			return err
		}
		found, rows := []oauth.Client{}, [][]string{}
		for i := range all {
			k := &all[i]
			if !strings.Contains(strings.ToLower(k.ID+"\n"+k.ClientName), strings.ToLower(c.Search)) {
				continue
			}
			found = append(found, *k)
			state := "enabled"
			if k.Disabled {
				state = "disabled"
			}
			rows = append(rows, []string{k.ID, state, k.ClientName, k.Origin, k.TokenEndpointAuthMethod, date(k.LastUsed)})
		}
		return o.table(found, "ID\tSTATE\tNAME\tORIGIN\tMETHOD\tLAST USED", rows)
	})
}

type clientsShowCmd struct {
	Client string `arg:"" help:"Id."`
}

func (clientsShowCmd) Help() string { return "Example:\n  gatehouse clients show shop" }

// Run shows the client as JSON, which is how everybody knows clients.
func (c *clientsShowCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		k, err := o.client(c.Client)
		if err != nil {
			return err
		}
		return printJSON(std.out, k)
	})
}

type clientsSetCmd struct {
	Client string `arg:"" help:"Id."`

	clientFlags
}

func (clientsSetCmd) Help() string {
	return "A file replaces all metadata; flags change what they name, and leave the rest.\n\nExample:\n  gatehouse clients set shop --redirect-uri https://shop.example/signed-in"
}

// Run changes the client.
func (c *clientsSetCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		k, err := o.client(c.Client)
		if err != nil {
			return err
		}
		m, err := c.metadata(o, k.Metadata)
		if err != nil {
			return err
		}
		if k, err = o.OAuth.UpdateClient(ctx, o.actor, k.ID, k.Version, m); err != nil {
			return err
		}
		return o.made(k, k.ID, "client %s is changed", k.ID)
	})
}

type clientsSecretCmd struct {
	Add    clientsSecretAddCmd    `cmd:"" help:"Make another secret. It is shown once."`
	Revoke clientsSecretRevokeCmd `cmd:"" help:"End a secret at once."`
}

type clientsSecretAddCmd struct {
	Client  string        `arg:"" help:"Id."`
	Overlap time.Duration `default:"24h" help:"How long the old secret goes on working."`
	Save    string        `placeholder:"FILE" help:"Write the secret into this file (mode 0600) instead of showing it."`
}

func (clientsSecretAddCmd) Help() string {
	return "Example:\n  gatehouse clients secret add shop --overlap 24h"
}

// Run makes the secret.
func (c *clientsSecretAddCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		k, err := o.client(c.Client)
		if err != nil {
			return err
		}
		return handOver(cli, std, c.Save, func() (*handed, error) {
			secret, made, err := o.OAuth.AddSecret(ctx, o.actor, k.ID, c.Overlap)
			if err != nil {
				return nil, err
			}
			return &handed{
				secret: secret, what: fmt.Sprintf("secret %s of client %s", made.ID, k.ID), undo: "revoke it and try again",
				view: func(shown string) any {
					return struct {
						*oauth.Secret

						Text string `json:"client_secret,omitempty"`
					}{made, shown}
				},
			}, nil
		})
	})
}

type clientsSecretRevokeCmd struct {
	Client string   `arg:"" help:"Id."`
	Secret []string `arg:"" help:"Ids of secrets, as 'gatehouse clients show' has them."`
}

func (clientsSecretRevokeCmd) Help() string {
	return "Example:\n  gatehouse clients secret revoke shop sec_3f8k2m9q4xwz"
}

// Run revokes the secrets.
func (c *clientsSecretRevokeCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		k, err := o.client(c.Client)
		if err != nil {
			return err
		}
		return each(c.Secret, func(id string) error {
			if err := o.OAuth.RevokeSecret(ctx, o.actor, k.ID, id); err != nil {
				return err
			}
			say(std.err, "secret %s of client %s is revoked\n", id, k.ID)
			return nil
		})
	})
}

func (o *office) eachClient(ids []string, done string, do func(ctx context.Context, actor, id string) error) error {
	return each(ids, func(id string) error {
		k, err := o.client(id)
		if err == nil {
			err = do(o.ctx, o.actor, k.ID)
		}
		if err == nil {
			say(o.std.err, "client %s %s\n", k.ID, done)
		}
		return err
	})
}

type clientsDisableCmd struct {
	Client []string `arg:"" help:"Ids."`
}

func (clientsDisableCmd) Help() string { return "Example:\n  gatehouse clients disable shop" }

// Run disables the clients.
func (c *clientsDisableCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		return o.eachClient(c.Client, "is disabled; every token is refused within a second", o.OAuth.DisableClient)
	})
}

type clientsEnableCmd struct {
	Client []string `arg:"" help:"Ids."`
}

func (clientsEnableCmd) Help() string { return "Example:\n  gatehouse clients enable shop" }

// Run enables the clients.
func (c *clientsEnableCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		return o.eachClient(c.Client, "is enabled; what was issued before stays dead", o.OAuth.EnableClient)
	})
}

type clientsDeleteCmd struct {
	Client []string `arg:"" help:"Ids."`
}

func (clientsDeleteCmd) Help() string {
	return "It cannot be undone; to shut a client out for now, disable it.\n\nExample:\n  gatehouse clients delete shop"
}

// Run deletes the clients.
func (c *clientsDeleteCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		return o.eachClient(c.Client, "is deleted", o.OAuth.DeleteClient)
	})
}
