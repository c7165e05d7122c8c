// Drives a real Chromium through the pages. Started by browser_test.go, which
// serves them, and reads one line of JSON for each scenario: {"name", "error", "seconds"}.
//
// Environment: PORT and SPKI of the server, CHROMIUM, MODULES (a folder with
// node_modules); SHOTS, a folder for pictures of every page, may be left out.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { authenticator, code } from "./factors.mjs";

const { PORT, SPKI, CHROMIUM, MODULES, SHOTS } = process.env;
const require = createRequire(join(MODULES, "x.js"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const site = "https://login.example.com";
const password = "correct horse battery staple";

const browser = await chromium.launch({
	executablePath: CHROMIUM,
	args: [`--host-resolver-rules=MAP * 127.0.0.1:${PORT}`, `--ignore-certificate-errors-spki-list=${SPKI}`, "--no-sandbox", "--disable-background-networking", "--disable-component-update"],
});

const assert = (ok, what) => { if (!ok) throw new Error(what); };

// open gives a page that writes down every violation of its policy.
async function open(options = {}) {
	const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
	context.setDefaultTimeout(15_000);
	const violations = [];
	await context.exposeBinding("reportViolation", (_, v) => violations.push(v));
	await context.addInitScript(() => document.addEventListener("securitypolicyviolation", (e) => window.reportViolation(`${e.violatedDirective} ${e.blockedURI} on ${location.pathname}`)));
	const page = await context.newPage();
	page.on("console", (m) => { if (m.text().includes("Content Security Policy")) violations.push(m.text()); });
	page.on("pageerror", (e) => violations.push(`script: ${e.message}`));
	return { context, page, violations };
}

async function scenario(name, options, f) {
	let error = "";
	const began = Date.now();
	const o = await open(options);
	try {
		await f(o);
		assert(o.violations.length === 0, `policy violated: ${o.violations.join("; ")}`);
	} catch (e) {
		error = `${e.message} (at ${o.page.url()})`;
		if (SHOTS) await o.page.screenshot({ path: join(SHOTS, `failed-${name.slice(0, 30).replace(/\W+/g, "-")}.png`), fullPage: true }).catch(() => {});
	}
	await o.context.close();
	console.log(JSON.stringify({ name, error, seconds: (Date.now() - began) / 1000 }));
}

async function signIn(page, user, path = "/signin") {
	await page.goto(site + path);
	await page.getByLabel("Name or e-mail address").fill(user);
	await page.getByLabel("Password").fill(password);
	await page.getByRole("button", { name: "Sign in", exact: true }).click();
}

const at = (page, path) => page.waitForURL((u) => u.pathname === path);

await scenario("a password signs in and leads back to the application, past form-action", {}, async ({ page }) => {
	await page.goto(`${site}/start?id=b1`);
	await signIn(page, "alice", new URL(page.url()).pathname + new URL(page.url()).search);
	await page.waitForURL("https://app.example.net/callback?code=abc");
});

await scenario("with the keyboard alone one signs in, consents and signs out", { viewport: { width: 320, height: 640 } }, async ({ page }) => {
	const press = (key) => page.keyboard.press(key);
	const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.textContent.trim());
	await page.goto(`${site}/start?id=consent-keyboard`);
	assert(await focused() === "name", `focus begins at ${await focused()}`);
	await page.keyboard.type("alice");
	await press("Tab");
	await page.keyboard.type(password);
	await press("Enter");
	await at(page, "/consent");
	await press("Tab");
	assert(await focused() === "Skip to content", `the first stop is ${await focused()}`);
	await press("Enter");
	for (let i = 0; i < 10 && await focused() !== "Allow"; i++) await press("Tab");
	await press("Enter");
	await page.waitForURL("https://app.example.net/callback?allow");
	await page.goto(`${site}/account`);
	for (let i = 0; i < 10 && await focused() !== "Sign out"; i++) await press("Tab");
	await press("Enter");
	await at(page, "/signin");
	assert(await page.getByText("You are signed out.").isVisible(), "nothing says so");
});

await scenario("an authenticator app is set up and signs in", {}, async ({ page, context }) => {
	await signIn(page, "tom");
	await at(page, "/account");
	await page.goto(`${site}/account/totp`);
	await page.getByText("I cannot scan it").click();
	const secret = await page.locator(".secret").textContent();
	await page.getByRole("textbox", { name: "Code" }).fill(code(secret));
	await page.getByRole("button", { name: "Turn on" }).click();
	await page.getByText("They are shown only now").waitFor();
	assert(await page.locator(".codes li").count() === 10, "not ten recovery codes");
	await context.clearCookies();
	await signIn(page, "tom");
	await at(page, "/signin/second");
	await page.getByLabel("Code from your authenticator app").fill("000000");
	await page.getByRole("button", { name: "Continue" }).click();
	await page.getByRole("alert").waitFor();
	await page.getByLabel("Code from your authenticator app").fill(code(secret, 1));
	await page.getByRole("button", { name: "Continue" }).click();
	await at(page, "/account");
});

await scenario("a passkey is added, signs in by the button, and is removed", {}, async ({ page, context }) => {
	// As in a browser without conditional mediation; with it, autofill is faster than the button.
	await context.addInitScript(() => { PublicKeyCredential.isConditionalMediationAvailable = async () => false; });
	await authenticator(context, page);
	await signIn(page, "pia");
	await at(page, "/account");
	await page.goto(`${site}/account/security`);
	await page.getByLabel("Name of the new passkey").fill("Laptop");
	await page.getByRole("button", { name: "Add a passkey" }).click();
	await page.getByText("Your passkey is added.").waitFor();
	// The same authenticator is told to refuse a second one.
	await page.getByRole("button", { name: "Add a passkey" }).click();
	await page.getByText("This device has a passkey for your account already.").waitFor();
	await page.getByRole("button", { name: "Sign out" }).first().click();
	await at(page, "/signin");
	await page.getByRole("button", { name: "Use a passkey" }).click();
	await at(page, "/account");
	await page.goto(`${site}/start?id=phr&acr=phr`);
	await page.waitForURL("https://app.example.net/callback?code=abc"); // it is phishing-resistant already
	await page.goto(`${site}/account/security`);
	await page.getByRole("button", { name: "Remove passkey Laptop" }).click();
	await page.getByText("Removed.").waitFor();
});

await scenario("the name field offers the passkey (conditional mediation)", {}, async ({ page, context }) => {
	await authenticator(context, page);
	await signIn(page, "cora");
	await at(page, "/account");
	await page.goto(`${site}/account/security`);
	await page.getByRole("button", { name: "Add a passkey" }).click();
	await page.getByText("Your passkey is added.").waitFor();
	await context.clearCookies();
	// Chromium answers for its virtual authenticator as soon as the page asks.
	await page.goto(`${site}/signin`);
	await at(page, "/account");
});

await scenario("a step-up to a passkey keeps the session and raises it", {}, async ({ page, context }) => {
	await signIn(page, "stella");
	await at(page, "/account");
	await authenticator(context, page);
	await page.goto(`${site}/account/security`);
	await page.getByRole("button", { name: "Add a passkey" }).click();
	await page.getByText("Your passkey is added.").waitFor();
	await page.goto(`${site}/start?id=up&acr=phr`);
	await page.getByRole("heading", { name: "One more step" }).waitFor();
	await page.getByRole("button", { name: "Use a passkey" }).click();
	await page.waitForURL("https://app.example.net/callback?code=abc");
});

await scenario("without scripts everything works but passkeys", { javaScriptEnabled: false }, async ({ page }) => {
	await page.goto(`${site}/start?id=plain`);
	assert(!(await page.getByRole("button", { name: "Use a passkey" }).isVisible()), "a button that cannot work");
	await signIn(page, "alice", new URL(page.url()).pathname + new URL(page.url()).search);
	await page.waitForURL("https://app.example.net/callback?code=abc");
	await page.goto(`${site}/formpost?action=https%3A%2F%2Fapp.example.net%2Fcallback`);
	await page.getByRole("button", { name: "Continue" }).click();
	await page.waitForURL("https://app.example.net/callback");
});

await scenario("an answer by form_post is sent on at once", {}, async ({ page }) => {
	await page.goto(`${site}/formpost?action=https%3A%2F%2Fapp.example.net%2Fcallback`);
	await page.waitForURL("https://app.example.net/callback");
	assert((await page.textContent("body")).includes("code=abc"), "the fields did not arrive");
});

await scenario("another site's form and frame get nowhere", {}, async ({ page, violations }) => {
	await signIn(page, "alice");
	await at(page, "/account");
	await page.goto("https://evil.example.org/attack");
	const [answer] = await Promise.all([page.waitForResponse((r) => r.url() === `${site}/account/signout`), page.click("#post")]);
	assert(answer.status() === 403, `the form of another site got ${answer.status()}`);
	await page.goto("https://evil.example.org/frame");
	await page.waitForTimeout(300);
	const framed = page.frames().filter((f) => f.url().startsWith(site));
	for (const f of framed) assert(!(await f.content()).includes("<form"), "the page shows itself in a frame");
	violations.length = 0; // they were the point
	await page.goto(`${site}/account`);
	assert(new URL(page.url()).pathname === "/account", "signed out by another site");
});

// Every page: by itself, narrow and wide, light and dark.
const anonymous = [
	["signin", "/signin"], ["signin-client", "/start?id=pages1"], ["reset", "/reset"], ["reset-sent", "/reset?sent"], ["reset-new", "/reset?code=x"], ["verify", "/verify?code=x"],
	["consent", "/consent"], ["device", "/device?state=ask"], ["device-error", "/device?state=ask&problem=It+is+not+known+or+too+old."], ["device-confirm", "/device?state=confirm"], ["device-done", "/device?state=approved"],
	["logout", "/logout"], ["logout-done", "/logout?done=1"], ["not-found", "/signin?request=unknown"],
];
const account = [
	["account", "/account"], ["security", "/account/security"], ["totp", "/account/totp"], ["password", "/account/password"], ["sessions", "/account/sessions"],
	["apps", "/account/apps"], ["keys", "/account/keys"], ["again", "/start?id=pages2&again=1"], ["stepup", "/start?id=pages3&acr=aal2"],
];

async function look(pages, user) {
	const o = await open();
	if (user) { await signIn(o.page, user); await at(o.page, "/account"); }
	const storageState = await o.context.storageState();
	await o.context.close();
	for (const [name, path] of pages) {
		await scenario(`the page ${name} fits 320 px, keeps its policy and has no fault axe knows of`, { storageState, viewport: { width: 320, height: 640 } }, async ({ page }) => {
			await page.goto(site + path);
			await inspect(page, name);
			const bypass = await open({ storageState, bypassCSP: true, reducedMotion: "reduce" });
			await bypass.page.goto(site + path);
			await bypass.page.addScriptTag({ content: axe });
			for (const colorScheme of ["light", "dark"]) {
				await bypass.page.emulateMedia({ colorScheme });
				await faults(bypass.page, colorScheme);
				if (SHOTS) await bypass.page.screenshot({ path: join(SHOTS, `${name}-1280-${colorScheme}.png`) });
			}
			await bypass.context.close();
		});
	}
}

async function inspect(page, name) {
	const wide = await page.evaluate(() => document.documentElement.scrollWidth);
	assert(wide <= 320, `${wide} px wide`);
	assert((await page.title()).startsWith(await page.locator("h1").textContent()) || (await page.title()).startsWith("Error: "), "the title does not say where one is");
	if (SHOTS) await page.screenshot({ path: join(SHOTS, `${name}-320.png`), fullPage: true });
}

async function faults(page, scheme) {
	if (!(await page.evaluate(() => "axe" in window))) await page.addScriptTag({ content: axe });
	const { violations } = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
	assert(violations.length === 0, `${scheme}: ${violations.map((v) => `${v.id}: ${v.nodes.map((n) => `${n.html} ${n.failureSummary}`).join(" | ")}`).join("; ")}`);
}

await look(anonymous);
await look(account, "alice");
await look([["long", "/account"], ["long-keys", "/account/keys"], ["long-stepup", "/start?id=pages4&acr=aal2&client=long"], ["long-problem", "/device?state=ask&problem=" + "x".repeat(300)]], "l".repeat(60));

// Pages that are answers to a POST.
await scenario("a refused sign-in, a new key and a page of codes fit and have no fault", { viewport: { width: 320, height: 640 }, bypassCSP: true }, async ({ page }) => {
	await page.goto(`${site}/signin`);
	await page.getByLabel("Name or e-mail address").fill("nobody");
	await page.getByLabel("Password").fill("wrong");
	await page.getByRole("button", { name: "Sign in", exact: true }).click();
	await page.getByRole("alert").first().waitFor();
	await inspect(page, "signin-refused");
	await faults(page, "light");
	await signIn(page, "keith");
	await at(page, "/account");
	await page.goto(`${site}/account/keys`);
	await page.getByLabel("What is it for?").fill("Nightly report");
	await page.getByLabel("editor").check();
	await page.getByLabel("orders:read").check();
	await page.getByRole("button", { name: "Make the key" }).click();
	await page.getByText("It is shown only now.").waitFor();
	await inspect(page, "key");
	await faults(page, "light");
	await page.goto(`${site}/account/keys`);
	await page.getByText("Replace").click();
	await inspect(page, "keys-menu");
	await faults(page, "light");
	await page.goto(`${site}/account/totp`);
	await page.getByText("I cannot scan it").click();
	const secret = await page.locator(".secret").textContent();
	await inspect(page, "totp-secret");
	await page.getByRole("textbox", { name: "Code" }).fill(code(secret));
	await page.getByRole("button", { name: "Turn on" }).click();
	await page.getByText("They are shown only now").waitFor();
	await inspect(page, "codes");
	await faults(page, "light");
	await page.goto(`${site}/account/security`);
	await inspect(page, "security-on");
	await faults(page, "light");
	await page.context().clearCookies();
	await signIn(page, "keith");
	await at(page, "/signin/second");
	await page.getByText("Use a recovery code instead").click();
	await inspect(page, "second");
	await faults(page, "light");
});

await browser.close();
