// Package identity is the people: users, groups, how they prove who they are, and
// the sessions in which they did; practices 1, 2 and 6.
//
// It owns the tables of users, groups, passwords, second factors, passkeys,
// sessions, mail codes and revocations, the rules for passwords (OWASP, NIST SP
// 800-63B-4), and how fast somebody may guess. It hides hashes, sealed secrets and
// the WebAuthn library. Roles are words here: what they may do is the config's.
//
// It trusts the database and the sealing key beside it. Who can write the tables
// can be anybody; who can only read them finds argon2id hashes, SHA-256 of random
// codes and sealed TOTP secrets. Losing the tables signs everybody out for good;
// losing the sealing key costs everybody's authenticator app.
//
// What somebody may do now is asked of [Standings] by those who keep things that
// people handed out in their own name.
//
// Refusals of a sign-in say the same for an unknown name, a wrong password and a
// locked account, and take the same time: see [ErrCredentials]. What is broken or
// unreachable is another error, and never a sign-in.
//
//	people, err := identity.Open(ctx, identity.Config{DB: db, Seal: seal, Log: changes, Issuer: issuer})
//	go people.Run(ctx, report)
//	login, err := people.Password(ctx, name, password, address)
//	cookie, session, err := people.Start(ctx, login, from)
//	session, user, err := people.Session(ctx, cookie.Reveal())
package identity
