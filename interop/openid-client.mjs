// npm openid-client against a whole Gatehouse, started by openid_client_test.go.
//
// Environment: ISSUER, API, MODULES; USERS lends browsers, see users in
// browser_test.go; SECRET is of the client "web", CERT and KEY are PEM files of a caller.
import { readFileSync } from "node:fs";
import https from "node:https";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { assert, refused, scenario } from "./scenarios.mjs";

const { ISSUER, API, MODULES, USERS, PROFILE, SECRET, CERT, KEY } = process.env;
const oidc = await import(pathToFileURL(join(MODULES, "openid-client/build/index.js")));
const issuer = new URL(ISSUER);
const redirect_uri = "https://app.example/callback";


// visit has a user's browser do its part, and gives the page where it came to rest.
async function visit(user, url, home = "https://app.example/") {
	const r = await fetch(`${USERS}/?${new URLSearchParams({ user, url, home })}`);
	assert(r.ok, `the browser: ${await r.clone().text()}`);
	return r.json();
}

// signIn runs the code flow; more is added to the request, options are {DPoP, par, token}.
async function signIn(config, user, more, options = {}) {
	const pkceCodeVerifier = oidc.randomPKCECodeVerifier();
	const checks = { pkceCodeVerifier, expectedState: oidc.randomState(), expectedNonce: oidc.randomNonce() };
	const parameters = {
		redirect_uri, scope: "openid", state: checks.expectedState, nonce: checks.expectedNonce,
		code_challenge: await oidc.calculatePKCECodeChallenge(pkceCodeVerifier), code_challenge_method: "S256", ...more,
	};
	const { DPoP } = options;
	const url = options.par ? await oidc.buildAuthorizationUrlWithPAR(config, parameters, { DPoP }) : oidc.buildAuthorizationUrl(config, parameters);
	const page = await visit(user, url.href);
	assert(page.status === 0, `the browser got no further than ${page.url} ${page.status} ${page.body}`);
	const back = page.form ? new Request(page.url, { method: "POST", headers: { "content-type": "application/x-www-form-urlencoded" }, body: new URLSearchParams(page.form) }) : new URL(page.url);
	return oidc.authorizationCodeGrant(config, back, checks, options.token, { DPoP });
}

const call = (config, token, DPoP) => oidc.fetchProtectedResource(config, token, new URL(`${API}/orders`), "GET", undefined, undefined, { DPoP });

// keys gives a private key and the JWK Set of its public half.
async function keys(alg) {
	const pair = await oidc.randomDPoPKeyPair(alg, { extractable: true });
	const jwk = await crypto.subtle.exportKey("jwk", pair.publicKey);
	return { key: pair.privateKey, kid: "k1", jwks: { keys: [{ kty: jwk.kty, crv: jwk.crv, x: jwk.x, y: jwk.y, n: jwk.n, e: jwk.e, alg, use: "sig", kid: "k1" }] } };
}

if (PROFILE === "fapi2") {
	await fapi2();
	process.exit(0);
}

const web = await oidc.discovery(issuer, "web", undefined, oidc.ClientSecretBasic(SECRET));

await scenario("discovery says what this client needs", async () => {
	const m = web.serverMetadata();
	assert(m.issuer === ISSUER && m.supportsPKCE(), "issuer or PKCE");
	const inserted = await oidc.discovery(issuer, "web", undefined, undefined, { algorithm: "oauth2" });
	assert(inserted.serverMetadata().token_endpoint === m.token_endpoint, "RFC 8414 says something else");
});

await scenario("code with PKCE, iss, userinfo, introspection, refresh with rotation, reuse, and the API", async () => {
	const t = await signIn(web, "nora", { scope: "openid profile email offline_access orders:read", prompt: "consent" });
	assert(t.claims().sid && t.claims().acr && t.token_type === "bearer", `claims ${JSON.stringify(t.claims())}`);
	const info = await oidc.fetchUserInfo(web, t.access_token, t.claims().sub);
	assert(info.email === "nora@example.com" && info.name === "Somebody called nora", `userinfo ${JSON.stringify(info)}`);
	assert((await oidc.tokenIntrospection(web, t.access_token)).active, "the access token is not active");
	assert((await oidc.tokenIntrospection(web, t.refresh_token)).active, "the refresh token is not active");
	assert((await call(web, t.access_token)).status === 200, "the API refuses it");
	const second = await oidc.refreshTokenGrant(web, t.refresh_token);
	assert(second.refresh_token !== t.refresh_token && second.claims().sub === t.claims().sub, "not rotated");
	const third = await oidc.refreshTokenGrant(web, second.refresh_token);
	await refused("invalid_grant", () => oidc.refreshTokenGrant(web, t.refresh_token)); // older than the last but one: stolen
	await refused("invalid_grant", () => oidc.refreshTokenGrant(web, third.refresh_token)); // so its family has ended
	assert(!(await oidc.tokenIntrospection(web, third.access_token)).active, "the access token outlives its family");
});

await scenario("an answer of another issuer, of another request, or without the verifier is of no use", async () => {
	const pkceCodeVerifier = oidc.randomPKCECodeVerifier();
	const code_challenge = await oidc.calculatePKCECodeChallenge(pkceCodeVerifier);
	const url = oidc.buildAuthorizationUrl(web, { redirect_uri, scope: "openid", state: "s1", code_challenge, code_challenge_method: "S256" });
	const back = new URL((await visit("nora", url.href)).url);
	const mixed = new URL(back);
	mixed.searchParams.set("iss", "https://evil.example");
	let stopped = 0;
	for (const [u, checks] of [[mixed, { pkceCodeVerifier, expectedState: "s1" }], [back, { pkceCodeVerifier, expectedState: "s2" }]]) {
		await oidc.authorizationCodeGrant(web, u, checks).catch(() => stopped++);
	}
	assert(stopped === 2, "the client was not told enough to refuse");
	await refused("invalid_grant", () => oidc.authorizationCodeGrant(web, back, { pkceCodeVerifier: oidc.randomPKCECodeVerifier(), expectedState: "s1" }));
});

await scenario("a request that the server refuses comes back as an error with iss", async () => {
	const url = oidc.buildAuthorizationUrl(web, { redirect_uri, scope: "openid nonsense", state: "s1", code_challenge: "x".repeat(43), code_challenge_method: "S256" });
	const back = new URL((await visit("nora", url.href)).url);
	assert(back.searchParams.get("error") === "invalid_scope" && back.searchParams.get("iss") === ISSUER && back.searchParams.get("state") === "s1", back.href);
	let error;
	await oidc.authorizationCodeGrant(web, back, { pkceCodeVerifier: "x".repeat(43), expectedState: "s1" }).catch((e) => { error = e; });
	assert(error?.error === "invalid_scope", `the client makes of it ${error}`);
});

await scenario("form_post, a pushed request and a resource", async () => {
	const t = await signIn(web, "nora", { scope: "openid orders:read", response_mode: "form_post", resource: API }, { par: true, token: { resource: API } });
	assert((await call(web, t.access_token)).status === 200, "the API refuses it");
	await refused("invalid_target", () => signIn(web, "nora", { resource: "https://elsewhere.example/" }, { par: true }));
});

await scenario("rich authorization: the details come back, in the token response and at introspection", async () => {
	const authorization_details = JSON.stringify([{ type: "payment", amount: { currency: "EUR", value: "10.00" } }]);
	const t = await signIn(web, "nora", { scope: "openid orders:read", authorization_details }, { par: true });
	assert(t.authorization_details?.[0].amount.value === "10.00", `details ${JSON.stringify(t.authorization_details)}`);
	assert((await oidc.tokenIntrospection(web, t.access_token)).authorization_details?.[0].type === "payment", "introspection does not say");
	await refused("invalid_authorization_details", () => signIn(web, "nora", { authorization_details: JSON.stringify([{ type: "unknown" }]) }, { par: true }));
});

await scenario("DPoP with nonces: at PAR, token, refresh, userinfo and the API", async () => {
	const pair = await oidc.randomDPoPKeyPair("ES256");
	const DPoP = oidc.getDPoPHandle(web, pair);
	const t = await signIn(web, "nora", { scope: "openid email offline_access orders:read", prompt: "consent" }, { par: true, DPoP });
	assert(t.token_type === "dpop", `token_type ${t.token_type}`);
	assert((await oidc.fetchUserInfo(web, t.access_token, t.claims().sub, { DPoP })).sub === t.claims().sub, "userinfo");
	assert((await call(web, t.access_token, DPoP)).status === 200, "the API refuses it");
	const jkt = (await oidc.tokenIntrospection(web, t.access_token)).cnf?.jkt;
	assert(jkt && jkt === await DPoP.calculateThumbprint(), "not bound to the key");
	const next = await oidc.refreshTokenGrant(web, t.refresh_token, undefined, { DPoP });
	assert(next.token_type === "dpop", "the refreshed token is not bound");
	const other = oidc.getDPoPHandle(web, await oidc.randomDPoPKeyPair("Ed25519"));
	for (const thief of [undefined, other]) {
		let got = 0;
		try { got = (await call(web, next.access_token, thief)).status; } catch (e) { got = e.status ?? e.response?.status ?? 401; }
		assert(got === 401, `a thief of the token got ${got}`);
	}
});

await scenario("dynamic registration, private_key_jwt with ES256, PS256 and Ed25519", async () => {
	for (const alg of ["ES256", "PS256", "Ed25519"]) { // the last by its name of RFC 9864, which this client uses
		const k = await keys(alg);
		const config = await oidc.dynamicClientRegistration(issuer, {
			client_name: `Worker ${alg}`, redirect_uris: [redirect_uri], grant_types: ["authorization_code", "refresh_token"], scope: "openid offline_access orders:read",
			token_endpoint_auth_method: "private_key_jwt", token_endpoint_auth_signing_alg: alg, jwks: k.jwks,
		}, oidc.PrivateKeyJwt({ key: k.key, kid: k.kid }));
		const m = config.clientMetadata();
		assert(m.client_id && m.registration_client_uri && m.registration_access_token, "the answer lacks something");
		const own = await (await fetch(m.registration_client_uri, { headers: { authorization: `Bearer ${m.registration_access_token}` } })).json();
		assert(own.client_name === `Worker ${alg}`, `RFC 7592 says ${JSON.stringify(own)}`);
		const t = await signIn(config, "nora", {}, { par: true });
		assert(t.claims().aud === m.client_id, "the ID token is another's");
		const impostor = await oidc.discovery(issuer, m.client_id, { token_endpoint_auth_signing_alg: alg }, oidc.PrivateKeyJwt({ key: (await keys(alg)).key, kid: k.kid }));
		await refused("invalid_client", () => signIn(impostor, "nora", {}, { par: true }));
	}
});

await scenario("mutual TLS: tls_client_auth and certificate-bound tokens", async () => {
	const agent = new https.Agent({ cert: readFileSync(CERT), key: readFileSync(KEY), ca: readFileSync(process.env.NODE_EXTRA_CA_CERTS) });
	const withCertificate = (url, { method = "GET", headers, body } = {}) => new Promise((resolve, reject) => {
		const r = https.request(url, { agent, method, headers: Object.fromEntries(new Headers(headers)) }, (answer) => {
			const parts = [];
			answer.on("data", (p) => parts.push(p)).on("end", () => resolve(new Response(Buffer.concat(parts), { status: answer.statusCode, headers: answer.headers }))).on("error", reject);
		});
		r.on("error", reject).end(body?.toString());
	});
	const config = await oidc.discovery(issuer, "partner", { use_mtls_endpoint_aliases: true }, oidc.TlsClientAuth(), { [oidc.customFetch]: withCertificate });
	const t = await oidc.clientCredentialsGrant(config, { scope: "orders:read", resource: API });
	assert((await oidc.tokenIntrospection(config, t.access_token)).cnf?.["x5t#S256"], "not bound to the certificate");
	assert((await call(config, t.access_token)).status === 200, "the API refuses it");
	let status;
	await call(web, t.access_token).then((r) => { status = r.status; }, (e) => { status = e.status; });
	assert(status === 401, `without the certificate the API answers ${status}`);
	const bare = await oidc.discovery(issuer, "partner", undefined, oidc.TlsClientAuth());
	await refused("invalid_client", () => oidc.clientCredentialsGrant(bare));
});

await scenario("the device flow, and a user code used twice", async () => {
	const config = await oidc.discovery(issuer, "television", undefined, oidc.None());
	const d = await oidc.initiateDeviceAuthorization(config, { scope: "openid orders:read" });
	const polled = oidc.pollDeviceAuthorizationGrant(config, d);
	const page = await visit("nora", d.verification_uri_complete, "none:");
	assert(page.body.includes("is connected"), page.body);
	const t = await polled;
	assert(t.claims().sub && (await call(config, t.access_token)).status === 200, "the tokens are no good");
	assert(!(await visit("nora", d.verification_uri_complete, "none:")).body.includes("is connected"), "the code works twice");
});

await scenario("revocation ends the grant, at the gateway within a second", async () => {
	const t = await signIn(web, "nora", { scope: "openid offline_access orders:read", prompt: "consent" });
	assert((await call(web, t.access_token)).status === 200, "the API refuses it");
	await oidc.tokenRevocation(web, t.refresh_token);
	await refused("invalid_grant", () => oidc.refreshTokenGrant(web, t.refresh_token));
	const deadline = Date.now() + 20_000; // a second, on a machine that is not busy
	for (;;) {
		let status;
		await call(web, t.access_token).then((r) => { status = r.status; }, (e) => { status = e.status; });
		if (status === 401) break;
		assert(Date.now() < deadline, `the API still answers ${status}`);
		await new Promise((r) => setTimeout(r, 50));
	}
});

await scenario("RP-initiated logout goes back to the application, and the session is over", async () => {
	const t = await signIn(web, "olga", { scope: "openid orders:read" });
	const silent = await signIn(web, "olga", { prompt: "none" });
	assert(silent.claims().sid === t.claims().sid, "another session");
	const out = oidc.buildEndSessionUrl(web, { id_token_hint: t.id_token, post_logout_redirect_uri: "https://app.example/bye", state: "s9" });
	assert((await visit("olga", out.href)).url === "https://app.example/bye?state=s9", "it did not come back");
	await refused("login_required", () => signIn(web, "olga", { prompt: "none" }));
	const elsewhere = oidc.buildEndSessionUrl(web, { id_token_hint: t.id_token, post_logout_redirect_uri: "https://evil.example/bye" });
	assert((await visit("olga", elsewhere.href, "https://evil.example/")).status === 400, "it goes where anybody says");
});

await scenario("token exchange narrows a user's token to one API", async () => {
	const t = await signIn(web, "nora", { scope: "openid orders:read", resource: API });
	const config = await oidc.discovery(issuer, "relay", undefined, oidc.ClientSecretBasic(process.env.RELAY));
	const x = await oidc.genericGrantRequest(config, "urn:ietf:params:oauth:grant-type:token-exchange", {
		subject_token: t.access_token, subject_token_type: "urn:ietf:params:oauth:token-type:access_token", resource: API, scope: "orders:read",
	});
	assert(x.issued_token_type === "urn:ietf:params:oauth:token-type:access_token" && (await call(config, x.access_token)).status === 200, "the exchanged token is no good");
});

// fapi2 is FAPI 2.0: keys instead of secrets, pushed requests, bound tokens, and nothing else.
async function fapi2() {
	const k = await keys("ES256");
	const metadata = {
		client_name: "Bank", redirect_uris: [redirect_uri], grant_types: ["authorization_code", "refresh_token"], scope: "openid offline_access orders:read",
		token_endpoint_auth_method: "private_key_jwt", token_endpoint_auth_signing_alg: "ES256", jwks: k.jwks, dpop_bound_access_tokens: true,
	};
	const register = (more) => oidc.dynamicClientRegistration(issuer, { ...metadata, ...more }, oidc.PrivateKeyJwt({ key: k.key, kid: k.kid }));
	await scenario("FAPI 2.0: a pushed request, a key, bound tokens, refresh", async () => {
		const config = await register({});
		assert(config.serverMetadata().require_pushed_authorization_requests === true, "pushed requests are not said to be required");
		const DPoP = oidc.getDPoPHandle(config, await oidc.randomDPoPKeyPair("ES256"));
		const t = await signIn(config, "nora", { scope: "openid offline_access orders:read", prompt: "consent" }, { par: true, DPoP });
		assert(t.token_type === "dpop" && (await call(config, t.access_token, DPoP)).status === 200, "the API refuses it");
		assert((await oidc.refreshTokenGrant(config, t.refresh_token, undefined, { DPoP })).token_type === "dpop", "the refreshed token is not bound");
	});
	await scenario("FAPI 2.0: a request that is not pushed, and a token that is not bound, are refused", async () => {
		const config = await register({});
		await refused("invalid_request", () => signIn(config, "nora", {}));
		await refused("invalid_dpop_proof", () => signIn(config, "nora", {}, { par: true }));
	});
	await scenario("FAPI 2.0: a client with a secret, without a bound token, or with RS256 cannot register", async () => {
		const secret = { token_endpoint_auth_method: "client_secret_basic", token_endpoint_auth_signing_alg: undefined, jwks: undefined };
		for (const more of [secret, { dpop_bound_access_tokens: false }, { token_endpoint_auth_signing_alg: "RS256" }]) {
			await refused("invalid_client_metadata", () => register(more));
		}
	});
}
