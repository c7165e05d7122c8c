// Everything that cannot be done without a script: passkeys. Forms with
// data-passkey are hidden until the browser is known to have them.
"use strict";
(() => {
	const bytes = (s) => Uint8Array.from(atob(s.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
	const text = (b) => b ? btoa(String.fromCharCode(...new Uint8Array(b))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "") : undefined;
	const ids = (list) => (list || []).map((c) => ({ ...c, id: bytes(c.id) }));

	// WebAuthn Level 3 has parseCreationOptionsFromJSON and toJSON; older browsers do not.
	const options = (o) => ({
		...o,
		challenge: bytes(o.challenge),
		...(o.user && { user: { ...o.user, id: bytes(o.user.id) } }),
		...(o.excludeCredentials && { excludeCredentials: ids(o.excludeCredentials) }),
		...(o.allowCredentials && { allowCredentials: ids(o.allowCredentials) }),
	});
	const json = (c) => {
		const r = c.response;
		return JSON.stringify({
			id: c.id, rawId: text(c.rawId), type: c.type, clientExtensionResults: c.getClientExtensionResults(),
			...(c.authenticatorAttachment && { authenticatorAttachment: c.authenticatorAttachment }),
			response: {
				clientDataJSON: text(r.clientDataJSON),
				...(r.attestationObject && { attestationObject: text(r.attestationObject), transports: r.getTransports ? r.getTransports() : [] }),
				...(r.authenticatorData && { authenticatorData: text(r.authenticatorData), signature: text(r.signature), userHandle: text(r.userHandle) }),
			},
		});
	};

	// begin asks the server for a ceremony, with the form's own fields.
	const begin = async (form) => {
		const body = new URLSearchParams({ csrf: form.elements.csrf.value });
		for (const name of ["step", "name"]) {
			if (form.elements[name]) body.set(name, form.elements[name].value);
		}
		const answer = await fetch(form.dataset.options, { method: "POST", body, credentials: "same-origin", redirect: "error" });
		if (!answer.ok) throw new Error("The server did not answer. Load this page again and retry.");
		const begun = await answer.json();
		if (begun.location) location.assign(begun.location);
		if (begun.error) throw new Error(begun.error);
		return begun;
	};
	const send = (form, begun, credential) => {
		form.elements.state.value = begun.state;
		form.elements.response.value = json(credential);
		form.submit();
	};
	const words = (e) => {
		switch (e.name) {
		case "InvalidStateError": return "This device has a passkey for your account already.";
		case "NotAllowedError": return "It was cancelled or took too long. Try again.";
		case "NotSupportedError": case "ConstraintError": return "This device cannot make such a passkey.";
		case "SecurityError": return "This browser does not allow passkeys at this address.";
		case "Error": return e.message;
		default: return "It did not work. Try again.";
		}
	};

	let quiet = null; // the ceremony in the name field's autofill: only one can run
	let ours = false; // somebody has pressed the button
	const autofill = async (form) => {
		const usable = window.PublicKeyCredential && PublicKeyCredential.isConditionalMediationAvailable;
		if (!usable || !(await PublicKeyCredential.isConditionalMediationAvailable())) return;
		// The server forgets a ceremony after five minutes: begin anew before.
		for (;;) {
			const begun = await begin(form);
			if (ours || !begun.options) return;
			quiet = new AbortController();
			const late = setTimeout(() => quiet.abort("late"), 4 * 60 * 1000);
			try {
				const credential = await navigator.credentials.get({ publicKey: options(begun.options.publicKey), mediation: "conditional", signal: quiet.signal });
				send(form, begun, credential);
				return;
			} catch (e) {
				if (ours || e !== "late") return;
			} finally {
				clearTimeout(late);
			}
		}
	};

	const start = (form) => {
		const button = form.querySelector("button");
		const problem = form.querySelector(".field-error");
		form.hidden = false;
		for (let box = form.closest("[data-script]"); box; box = null) box.hidden = false;
		form.addEventListener("submit", async (event) => {
			event.preventDefault();
			ours = true;
			if (quiet) quiet.abort("ours");
			button.disabled = true;
			problem.hidden = true;
			try {
				const begun = await begin(form);
				if (!begun.options) return;
				const publicKey = options(begun.options.publicKey);
				const credential = form.dataset.passkey === "create" ? await navigator.credentials.create({ publicKey }) : await navigator.credentials.get({ publicKey });
				send(form, begun, credential);
			} catch (e) {
				problem.textContent = words(e);
				problem.hidden = false;
				button.disabled = false;
				button.focus();
			}
		});
		const name = document.querySelector("input[autocomplete~=webauthn]");
		if (name && form.dataset.passkey === "get") autofill(form).catch(() => {}); // the button is still there
	};

	if (window.PublicKeyCredential) document.querySelectorAll("form[data-passkey]").forEach(start);
	document.querySelectorAll("form[data-submit]").forEach((form) => form.submit());
	document.querySelectorAll("[data-reveal]").forEach((button) => {
		const field = document.getElementById(button.dataset.reveal);
		button.hidden = false;
		button.addEventListener("click", () => {
			const show = field.type === "password";
			field.type = show ? "text" : "password";
			button.setAttribute("aria-pressed", String(show));
			button.textContent = show ? "Hide" : "Show";
		});
	});
})();
