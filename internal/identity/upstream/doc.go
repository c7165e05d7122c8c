// Package upstream signs people in elsewhere: at an OpenID Connect provider or in
// an LDAP directory; practices 1 and 2.
//
// It owns how such a sign-in is asked for and checked, and hides the protocols'
// libraries. It keeps nothing: what must survive the way through the browser is
// sealed into a cookie's value. Which account the proven person has is
// [identity.Directory.Link]'s to say.
//
// It trusts the operator's connectors: an upstream can sign in as each of its own
// users, with the roles that the connector's mapping names and no others, and can
// reach a local account only where the config links verified addresses. It does
// not trust what comes through the browser, other upstreams (mix-up), or names an
// upstream's users may choose.
//
// A sign-in that is not one is [identity.ErrCredentials] (LDAP) or [ErrRefused];
// an upstream that can not be asked is another error, and never a sign-in. Errors
// quote no token, code, password or answer.
//
//	google, err := upstream.NewOIDC(upstream.OIDCConfig{Name: "google", Preset: "google", ClientID: id, …})
//	to, cookie, err := google.Begin(ctx, upstream.Ask{Then: state})    // send the browser to to
//	who, then, err := google.Finish(ctx, r.URL.Query(), cookie)
//	user, err := people.Link(ctx, who)
package upstream
