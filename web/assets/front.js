/** Asks this server what it is and how it is, and says so in words: colour alone tells nobody anything. */
async function ask(path) {
  const response = await fetch(path, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(10_000) });
  const body = await response.json().catch(() => ({}));
  return { ok: response.ok, status: response.status, body };
}

function show(id, text, good) {
  const place = document.getElementById(id);
  if (!place) return;
  place.textContent = text;
  place.className = good ? "good" : "bad";
}

async function fill(id, path, words) {
  try {
    const answer = await ask(path);
    show(id, words(answer), answer.ok);
  } catch {
    show(id, "does not answer", false);
  }
}

/** The demo mode is told to whoever looks. */
async function warnOfDemo() {
  const { body } = await ask("/api/v1/auth/info").catch(() => ({ body: {} }));
  if (body.auth_type !== "none") return;
  document.getElementById("demo")?.removeAttribute("hidden");
  document.getElementById("sign-in")?.setAttribute("hidden", "");
}

const state = ({ ok, status, body }) => (ok ? String(body.status) : String(body.message ?? `answers ${status}`));

fill("version", "/api/v1/version", ({ ok, status, body }) => {
  if (!ok) return `answers ${status}`;
  const commit = /^[0-9a-f]{40}$/.test(body.commit) ? `, commit ${body.commit.slice(0, 12)}` : "";
  return `${body.version}${commit}`;
});
warnOfDemo();
fill("health", "/health", state);
fill("ready", "/ready", state);
