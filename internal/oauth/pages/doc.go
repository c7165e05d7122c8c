// Package pages is what people see of the authorization server: signing in,
// consent, their account; practice 6 and the attack row CSRF.
//
// It owns the HTML, the cookies of a browser ("__Host-gatehouse" is the
// session, "__Host-gatehouse-flow" the browser before there is one, two more last
// for the minutes of a sign-in that has two steps or leads elsewhere), the check
// that a form was sent from a page of ours, and the security headers. It hides
// templates, style and script: everything is rendered here, works without
// JavaScript except passkeys, and loads nothing from elsewhere.
//
// It trusts identity for who somebody is and oauth for what waits for a sign-in.
// It keeps nothing: who loses its sealing key loses half-done sign-ins. Every
// text of users and clients goes through html/template; a fault in that, or in
// the policy that forbids foreign scripts, would give away whoever signs in.
//
// Errors become a page with the decision id and without the cause; a refused
// form comes back with what is wrong beside the field.
//
//	p, err := pages.New(pages.Config{Issuer: issuer, People: people, Seal: seal, Flow: server})
//	for pattern, h := range p.Routes() {
//		mux.Handle(pattern, h) // "GET /signin", below the issuer's path
//	}
//	p.Consent(w, r, pages.ConsentView{Request: id, Client: pages.Client{Name: "Orders"}})
package pages
