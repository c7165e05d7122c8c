package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

type tokenCmd struct {
	Inspect tokenInspectCmd `cmd:"" help:"Say what a token of ours says, whether it is good, and if not, why."`
	Revoke  tokenRevokeCmd  `cmd:"" help:"End a token, a grant or a session at once."`
	Keys    tokenKeysCmd    `cmd:"" help:"List the keys that sign tokens, and rotate them."`
}

type tokenInspectCmd struct{}

func (tokenInspectCmd) Help() string {
	return "The token is read from standard input: arguments can be read by everybody on the machine. Ends with 1 when it is not good.\n\nExample:\n  gatehouse token inspect < token.txt"
}

// Run looks at the token.
func (c *tokenInspectCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		raw, err := readLine(std.in, "token")
		if err != nil {
			return err
		}
		i, err := o.OAuth.Inspect(ctx, strings.TrimPrefix(raw.Reveal(), "Bearer "))
		if err != nil {
			return err
		}
		if cli.Output == "json" {
			err = printJSON(std.out, i)
		} else {
			err = o.inspection(i)
		}
		if err == nil && !i.Active {
			return errFailed
		}
		return err
	})
}

func (o *office) inspection(i *oauth.Inspection) error {
	verdict := paint(*o.std, green, "good")
	if !i.Active {
		verdict = paint(*o.std, red, "not good: "+i.Why)
	}
	say(o.std.out, "%s\n", verdict)
	at := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return date(*t)
	}
	return o.details("kind", strings.TrimSpace(i.Kind+yes(i.Format != "", " ("+i.Format+")")), "subject", i.Subject, "client", i.Client,
		"for", strings.Join(i.Audience, " "), "scopes", strings.Join(i.Scopes, " "), "roles", strings.Join(i.Roles, ", "), "tenant", i.Tenant,
		"signed in", strings.TrimSpace(i.ACR+" "+strings.Join(i.AMR, " ")), "bound to", i.BoundTo, "issued", at(i.IssuedAt), "expires", at(i.Expires),
		"jti", i.JTI, "grant", i.GrantID, "session", i.SID, "issuer", i.Issuer)
}

type tokenRevokeCmd struct {
	Grant   string `xor:"what" placeholder:"ID" help:"End a grant and all tokens that came of it."`
	Session string `xor:"what" placeholder:"ID" help:"End a session and the tokens of it."`
	JTI     string `xor:"what" name:"jti" placeholder:"ID" help:"End the access token with this jti."`
}

func (tokenRevokeCmd) Help() string {
	return "Without a flag the token is read from standard input; a refresh token ends with all that came of its grant. For a user or client: gatehouse users lock, gatehouse clients disable.\n\nExample:\n  gatehouse token revoke < token.txt"
}

// Run ends it.
func (c *tokenRevokeCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) (err error) {
		switch {
		case c.Grant != "":
			err = o.Revoke(ctx, o.actor, "grant", c.Grant)
		case c.Session != "":
			err = o.Revoke(ctx, o.actor, "session", c.Session)
		case c.JTI != "":
			err = o.Revoke(ctx, o.actor, "token", c.JTI)
		default:
			raw, err := readLine(std.in, "token")
			if err != nil {
				return err
			}
			err = o.OAuth.RevokeToken(ctx, o.actor, strings.TrimPrefix(raw.Reveal(), "Bearer "))
			if errors.Is(err, oauth.ErrTokenUnknown) {
				return &hintError{errors.New("there is nothing to end: it is no token of ours, or has expired"), "'gatehouse token inspect' says more"}
			}
			if err != nil {
				return err
			}
		}
		if err == nil {
			say(std.err, "it is refused everywhere within a second\n")
		}
		return err
	})
}

type tokenKeysCmd struct {
	List   tokenKeysListCmd   `cmd:"" help:"List the public keys that verify tokens."`
	Rotate tokenKeysRotateCmd `cmd:"" help:"Make new keys sign and seal; those before verify and open what they made."`
}

type tokenKeysListCmd struct{}

func (tokenKeysListCmd) Help() string { return "Example:\n  gatehouse token keys list" }

// Run lists the keys.
func (c *tokenKeysListCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error { return o.signingKeys() })
}

func (o *office) signingKeys() error {
	var set struct {
		Keys []struct {
			Kid string `json:"kid"`
			Alg string `json:"alg"`
			Kty string `json:"kty"`
		} `json:"keys"`
	}
	jwks := o.Keyring.JWKS()
	if err := json.Unmarshal(jwks, &set); err != nil {
		return err
	}
	rows := [][]string{}
	for _, k := range set.Keys {
		rows = append(rows, []string{k.Kid, k.Alg, k.Kty})
	}
	return o.table(json.RawMessage(jwks), "ID\tALGORITHM\tTYPE", rows)
}

type tokenKeysRotateCmd struct{}

func (tokenKeysRotateCmd) Help() string { return "Example:\n  gatehouse token keys rotate" }

// Run rotates the keys.
func (c *tokenKeysRotateCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		if err := o.RotateSigningKeys(ctx, o.actor); err != nil {
			return err
		}
		say(std.err, "new keys sign; a running gateway takes them within a second\n")
		return o.signingKeys()
	})
}

type exportCmd struct{}

func (exportCmd) Help() string {
	return "There is no secret in it, nor the hash of one; that it was made is in the log of changes.\n\nExample:\n  gatehouse export > people.json"
}

// Run prints everything.
func (c *exportCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	return withOffice(ctx, cli, std, func(o *office) error {
		out := bufio.NewWriter(std.out)
		return errors.Join(o.Export(ctx, o.actor, out), out.Flush())
	})
}
