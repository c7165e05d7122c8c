// Second factors for a browser that is driven: an authenticator app, and Chromium's
// virtual authenticator.
import { createHmac } from "node:crypto";

// code is RFC 6238; ahead counts half-minutes, for a code that was not used yet.
export function code(secret, ahead = 0) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
	let bits = "";
	for (const c of secret.replace(/\s/g, "")) bits += alphabet.indexOf(c).toString(2).padStart(5, "0");
	const key = Buffer.from(bits.match(/.{8}/g).map((b) => parseInt(b, 2)));
	const step = Buffer.alloc(8);
	step.writeBigInt64BE(BigInt(Math.floor(Date.now() / 30000) + ahead));
	const sum = createHmac("sha1", key).update(step).digest();
	return String((sum.readUInt32BE(sum[19] & 15) & 0x7fffffff) % 1000000).padStart(6, "0");
}

export async function authenticator(context, page) {
	const cdp = await context.newCDPSession(page);
	await cdp.send("WebAuthn.enable", { enableUI: false });
	await cdp.send("WebAuthn.addVirtualAuthenticator", {
		options: { protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true },
	});
}
