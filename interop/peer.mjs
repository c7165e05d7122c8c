// npm oidc-provider with the clients of malformed_test.go: node peer.mjs MODULES CLIENTS(JSON).
// Says its issuer. GET /mint?client_id=…&challenge=… gives a code, as if somebody
// had signed in and said yes. Ends with its standard input.
import http from "node:http";
import { generateKeyPairSync } from "node:crypto";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [, , modules, clients] = process.argv;
const { default: Provider, errors } = await import(pathToFileURL(join(modules, "oidc-provider/lib/index.js")));

let answer = (_, res) => res.destroy();
const server = http.createServer((req, res) => answer(req, res));
server.listen(0, "127.0.0.1", () => {
	const issuer = `http://127.0.0.1:${server.address().port}`;
	const key = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ format: "jwk" });
	const provider = new Provider(issuer, {
		clients: JSON.parse(clients),
		clientDefaults: { id_token_signed_response_alg: "ES256" },
		scopes: ["openid", "email", "offline_access", "orders:read"],
		claims: { openid: ["sub"], email: ["email"] },
		jwks: { keys: [{ ...key, alg: "ES256", use: "sig", kid: "k" }] },
		enabledJWA: { idTokenSigningAlgValues: ["ES256"], clientAuthSigningAlgValues: ["ES256", "PS256", "EdDSA"] },
		clientAuthMethods: ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"],
		responseTypes: ["code"],
		enableHttpPostMethods: true,
		pkce: { required: () => true },
		cookies: { keys: ["only for tests"], long: { sameSite: "none" } },
		routes: { authorization: "/authorize", token: "/token", pushed_authorization_request: "/par", introspection: "/introspect", revocation: "/revoke", userinfo: "/userinfo", device_authorization: "/device_authorization" },
		features: {
			claimsParameter: { enabled: true }, devInteractions: { enabled: false }, clientCredentials: { enabled: true }, deviceFlow: { enabled: true }, introspection: { enabled: true }, revocation: { enabled: true },
			dPoP: { enabled: true, nonceSecret: Buffer.alloc(32, 1), requireNonce: () => true },
			resourceIndicators: {
				enabled: true, defaultResource: () => undefined, useGrantedResource: () => true,
				getResourceServerInfo: (_, resource) => {
					if (resource !== "https://api.example/") throw new errors.InvalidTarget();
					return { scope: "orders:read", accessTokenFormat: "opaque" };
				},
			},
		},
		findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, email: "mallory@example.com" }) }),
	});
	const callback = provider.callback();
	answer = async (req, res) => {
		const url = new URL(req.url, issuer);
		if (url.pathname !== "/mint") return callback(req, res);
		const clientId = url.searchParams.get("client_id");
		const grant = new provider.Grant({ accountId: "mallory", clientId });
		grant.addOIDCScope("openid email");
		const code = new provider.AuthorizationCode({
			accountId: "mallory", client: await provider.Client.find(clientId), grantId: await grant.save(), scope: "openid email", redirectUri: "https://app.example/callback", gty: "authorization_code",
			codeChallenge: url.searchParams.get("challenge"), codeChallengeMethod: "S256",
		});
		res.end(await code.save());
	};
	console.log(issuer);
});
process.stdin.on("end", () => process.exit(0)).resume();
