// A real Chromium with its virtual authenticator signs in at a whole Gatehouse, for
// an application that redeems its codes. Started by chromium_test.go.
//
// Environment: ISSUER, CHROMIUM, MODULES (with playwright-core), SPKI of the
// gateway's and the application's certificates, APP_PORT, SECRET of the client.
import { createRequire } from "node:module";
import { createHash, randomBytes } from "node:crypto";
import { join } from "node:path";
import { authenticator, code } from "../internal/oauth/pages/browser/factors.mjs";
import { assert, scenario } from "./scenarios.mjs";

const { ISSUER, CHROMIUM, MODULES, SPKI, APP_PORT, SECRET } = process.env;
const { chromium } = createRequire(join(MODULES, "x.js"))("playwright-core");
const app = "https://app.example/callback";
const patience = { timeout: 60_000 };

const browser = await chromium.launch({
	executablePath: CHROMIUM,
	args: [`--host-resolver-rules=MAP app.example 127.0.0.1:${APP_PORT}`, `--ignore-certificate-errors-spki-list=${SPKI}`, "--no-sandbox", "--disable-background-networking", "--disable-component-update"],
	timeout: patience.timeout,
});

// request begins the code flow in the page, and finishes when the code is redeemed.
async function request(page, more, then) {
	const verifier = randomBytes(32).toString("base64url");
	const challenge = createHash("sha256").update(verifier).digest("base64url");
	await page.goto(`${ISSUER}/authorize?${new URLSearchParams({ client_id: "shop", response_type: "code", redirect_uri: app, scope: "openid email", state: "s", code_challenge: challenge, code_challenge_method: "S256", ...more })}`);
	await then?.();
	await page.waitForURL(`${app}?**`, patience);
	const back = new URL(page.url()).searchParams;
	assert(back.get("state") === "s" && back.get("iss") === ISSUER, `came back with ${back}`);
	if (!back.get("code")) return { error: back.get("error") };
	const r = await fetch(`${ISSUER}/token`, { method: "POST", headers: { authorization: `Basic ${btoa(`shop:${SECRET}`)}` }, body: new URLSearchParams({ grant_type: "authorization_code", code: back.get("code"), code_verifier: verifier, redirect_uri: app }) });
	const t = await r.json();
	assert(r.status === 200, `the token endpoint: ${JSON.stringify(t)}`);
	return { ...t, claims: JSON.parse(Buffer.from(t.id_token.split(".")[1], "base64url")) };
}

async function signIn(page, user) {
	await page.getByLabel("Name or e-mail address").fill(user);
	await page.getByLabel("Password").fill("correct horse battery staple");
	await page.getByRole("button", { name: "Sign in", exact: true }).click();
}

const at = (page, path) => page.waitForURL((u) => u.pathname === `/id${path}`, patience);
const allow = (page) => page.getByRole("button", { name: "Allow", exact: true }).click();

async function used(name, f) {
	await scenario(name, async () => {
		const context = await browser.newContext();
		context.setDefaultTimeout(patience.timeout);
		try {
			await f(await context.newPage(), context);
		} finally {
			await context.close();
		}
	});
}

await used("password and consent, single sign-on, then logout by the application", async (page) => {
	const t = await request(page, {}, async () => { await signIn(page, "paul"); await at(page, "/authorize/continue"); await allow(page); });
	assert(t.claims.acr === "aal1" && t.claims.amr.includes("pwd"), JSON.stringify(t.claims));
	const again = await request(page, { prompt: "none" });
	assert(again.claims?.sid === t.claims.sid, "asked again");
	await page.goto(`${ISSUER}/logout?${new URLSearchParams({ id_token_hint: t.id_token, post_logout_redirect_uri: "https://app.example/bye", state: "b" })}`);
	await page.waitForURL("https://app.example/bye?state=b", patience);
	assert((await request(page, { prompt: "none" })).error === "login_required", "still signed in");
});

await used("a user says no", async (page) => {
	const t = await request(page, { prompt: "consent" }, async () => { await signIn(page, "paul"); await at(page, "/authorize/continue"); await page.getByRole("button", { name: "Do not allow" }).click(); });
	assert(t.error === "access_denied", JSON.stringify(t));
});

await used("an authenticator app is set up on the way to an application that asks for two factors", async (page, context) => {
	await page.goto(`${ISSUER}/account`);
	await at(page, "/signin");
	await signIn(page, "tina");
	await at(page, "/account");
	await page.goto(`${ISSUER}/account/totp`);
	await page.getByText("I cannot scan it").click();
	const secret = await page.locator(".secret").textContent();
	await page.getByRole("textbox", { name: "Code" }).fill(code(secret));
	await page.getByRole("button", { name: "Turn on" }).click();
	await page.getByText("They are shown only now").waitFor();
	await context.clearCookies();
	const t = await request(page, { acr_values: "aal2" }, async () => {
		await signIn(page, "tina");
		await at(page, "/signin/second");
		await page.getByLabel("Code from your authenticator app").fill(code(secret, 1));
		await page.getByRole("button", { name: "Continue" }).click();
		await at(page, "/authorize/continue");
		await allow(page);
	});
	assert(t.claims.acr === "aal2" && t.claims.amr.includes("otp") && t.claims.amr.includes("pwd"), JSON.stringify(t.claims));
});

await used("a passkey signs in, phishing-resistant", async (page, context) => {
	// With conditional mediation autofill is faster than the button.
	await context.addInitScript(() => { PublicKeyCredential.isConditionalMediationAvailable = async () => false; });
	await authenticator(context, page);
	await page.goto(`${ISSUER}/account/security`);
	await at(page, "/signin");
	await signIn(page, "petra");
	await page.waitForURL((u) => u.pathname.startsWith("/id/account"), patience);
	await page.goto(`${ISSUER}/account/security`);
	await page.getByLabel("Name of the new passkey").fill("Laptop");
	await page.getByRole("button", { name: "Add a passkey" }).click();
	await page.getByText("Your passkey is added.").waitFor();
	await context.clearCookies();
	const t = await request(page, { acr_values: "phr" }, async () => {
		await page.getByRole("button", { name: "Use a passkey" }).click();
		await at(page, "/authorize/continue");
		await allow(page);
	});
	assert(t.claims.acr === "phr" && t.claims.amr.includes("hwk"), JSON.stringify(t.claims));
});

await browser.close();
