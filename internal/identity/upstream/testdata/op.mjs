// An OpenID provider nobody here wrote, with two clients: node op.mjs PATH/TO/node_modules REDIRECT_URI
import http from "node:http";
import { generateKeyPairSync } from "node:crypto";
const { default: Provider } = await import(process.argv[2] + "/oidc-provider/lib/index.js");

let answer = (_, res) => res.destroy();
const server = http.createServer((req, res) => answer(req, res));
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const client = (id, more) => ({ client_id: id, redirect_uris: [process.argv[3]], grant_types: ["authorization_code"], response_types: ["code"], ...more });
  const key = (type, options, alg) => ({ ...generateKeyPairSync(type, options).privateKey.export({ format: "jwk" }), alg, use: "sig", kid: alg });
  const provider = new Provider(issuer, {
    clients: [
      client("confidential", { client_secret: "a-secret: with/odd%bytes" }),
      client("elliptic", { client_secret: "another", id_token_signed_response_alg: "ES256" }),
      client("public", { token_endpoint_auth_method: "none" }),
    ],
    claims: { openid: ["sub", "acr", "auth_time"], profile: ["name", "preferred_username", "picture"], email: ["email", "email_verified"], groups: ["groups"] },
    scopes: ["openid", "profile", "email", "groups"],
    jwks: { keys: [key("rsa", { modulusLength: 2048 }, "RS256"), key("ec", { namedCurve: "P-256" }, "ES256")] },
    enabledJWA: { idTokenSigningAlgValues: ["RS256", "ES256"] },
    pkce: { required: () => true },
    cookies: { keys: ["only for tests"] },
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({
        sub: id, name: "Alice Liddell", preferred_username: "alice", picture: "javascript:alert(1)",
        email: "alice@example.com", email_verified: true, groups: ["staff", "admins"],
      }),
    }),
  });
  answer = provider.callback();
  console.log(issuer);
});
process.stdin.on("end", () => process.exit(0)).resume();
