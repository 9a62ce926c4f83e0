/**
 * The login page: says what went wrong, by the reason in the address, lists the identity providers of this server, and takes a
 * break-glass password where that is enabled.
 */

const AGAIN = "Begin the sign-in again.";
const OPERATOR = "Tell an administrator of this server; the reason below helps.";

/** What a person can do about each reason (src/identity/oidc/failure.ts). Nothing of the address is shown as it is. */
const WORDS = {
  access_denied: `The identity provider did not let you in. ${AGAIN}`,
  alg_rejected: `The identity provider signs in a way that is not accepted. ${OPERATOR}`,
  at_hash_mismatch: `The identity provider's tokens do not belong together. ${AGAIN}`,
  audience_mismatch: `The identity provider's answer was for another application. ${OPERATOR}`,
  azp_mismatch: `The identity provider's answer was for another application. ${OPERATOR}`,
  email_domain_not_allowed: "The domain of your email address is not allowed here.",
  email_missing_but_required: "The identity provider does not tell your email address, which is required here.",
  email_not_verified: "Your email address is not verified at the identity provider.",
  groups_invalid: `The identity provider tells your groups in a form that cannot be read. ${OPERATOR}`,
  groups_missing: `The identity provider tells no groups of yours, so that you have no role here. ${OPERATOR}`,
  groups_overage: `You have more groups than the identity provider tells, so that you have no role here. ${OPERATOR}`,
  iat_window: `The identity provider's answer is too old, or a clock is wrong. ${AGAIN}`,
  id_token_invalid: `The identity provider's answer is not valid. ${OPERATOR}`,
  id_token_iss_mismatch: `The answer came from another identity provider. ${OPERATOR}`,
  iss_param_mismatch: `The answer came from another identity provider. ${AGAIN}`,
  iss_param_missing: `The answer does not say which identity provider it is from. ${OPERATOR}`,
  jwks_unreachable: "The identity provider's keys are not to be had at the moment. Try again in a minute.",
  nonce_mismatch: `The answer belongs to another sign-in. ${AGAIN}`,
  pre_login_consume_failed: `This sign-in took longer than ten minutes, or was used already. ${AGAIN}`,
  provider_disabled: "This identity provider is disabled.",
  provider_error: `The identity provider reports an error. ${AGAIN}`,
  provider_unreachable: "The identity provider does not answer at the moment. Try again in a minute.",
  signature_invalid: `The identity provider's signature does not hold. ${OPERATOR}`,
  state_mismatch: `The sign-in was begun in another browser or window. ${AGAIN}`,
  token_exchange_failed: `The identity provider did not accept this sign-in. ${AGAIN}`,
  token_expired: `The identity provider's answer has expired, or a clock is wrong. ${AGAIN}`,
  unmapped_groups: `None of your groups has a role here. ${OPERATOR}`,
  user_deactivated: "Your account here is deactivated.",
  userinfo_failed: `The identity provider does not tell who you are. ${OPERATOR}`,
};

const query = new URLSearchParams(location.search);

function put(id, text) {
  const place = document.getElementById(id);
  if (place) place.textContent = text;
}

function showFailure() {
  if (!query.has("error")) return;
  const reason = query.get("reason") ?? "";
  const known = Object.hasOwn(WORDS, reason);
  put("why", known ? WORDS[reason] : `Something went wrong. ${AGAIN}`);
  if (known) put("reason", `Reason: ${reason}`);
  document.getElementById("failure")?.removeAttribute("hidden");
}

/** The server refuses what is no path of its own. */
function linkOf(provider) {
  const parameters = new URLSearchParams({ provider: provider.id });
  if (query.has("return_to")) parameters.set("return_to", query.get("return_to"));
  return `/auth/oidc/login?${parameters}`;
}

/** Where to go after a sign-in by password: a place of this server, else its start page. */
function destination() {
  const url = URL.parse(query.get("return_to") ?? "/", location.origin);
  return url?.origin === location.origin ? url.href : "/";
}

async function signInByPassword(event) {
  event.preventDefault();
  const form = event.currentTarget;
  put("answer", "asking this server");
  try {
    const response = await fetch("/auth/breakglass/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(Object.fromEntries(new FormData(form))),
    });
    if (response.ok) {
      location.assign(destination());
      return;
    }
    const { message } = await response.json();
    put("answer", String(message));
  } catch {
    put("answer", "This server does not answer at the moment.");
  }
}

function offerPassword() {
  document.getElementById("emergency-form")?.addEventListener("submit", signInByPassword);
  document.getElementById("breakglass")?.removeAttribute("hidden");
}

function entry(provider) {
  const item = document.createElement("li");
  const link = document.createElement("a");
  link.href = linkOf(provider);
  link.textContent = String(provider.name);
  item.append(link);
  return item;
}

async function showProviders() {
  const list = document.getElementById("providers");
  if (!list) return;
  try {
    const response = await fetch("/api/v1/auth/info", { signal: AbortSignal.timeout(10_000) });
    const info = await response.json();
    const providers = Array.isArray(info.oidc_providers) ? info.oidc_providers : [];
    if (info.breakglass === true) offerPassword();
    if (providers.length > 0) list.replaceChildren(...providers.map(entry));
    else list.firstElementChild.textContent = "This server has no identity provider that is enabled.";
  } catch {
    list.firstElementChild.textContent = "This server does not answer at the moment.";
  }
}

showFailure();
showProviders();
