// One line of JSON for each scenario: {"name", "error", "seconds"}.
export async function scenario(name, f) {
	let error = "";
	const began = Date.now();
	try {
		await f();
	} catch (e) {
		error = `${e.message} ${e.code ?? ""} ${e.error ?? ""} ${e.error_description ?? ""} ${e.cause ? JSON.stringify(e.cause) : ""} ${e.stack.split("\n").find((l) => l.includes("/interop/")) ?? ""}`;
	}
	console.log(JSON.stringify({ name, error, seconds: (Date.now() - began) / 1000 }));
}

export function assert(ok, what) {
	if (!ok) throw new Error(what);
}

// refused runs f, which must fail with the OAuth error code.
export async function refused(code, f) {
	try {
		await f();
	} catch (e) {
		const got = e.error ?? e.cause?.[0]?.parameters?.error ?? e.cause?.error ?? e.message;
		assert(got === code, `refused with ${got}, not ${code}`);
		return;
	}
	throw new Error(`went through, and should have been refused with ${code}`);
}
