// oidc-provider with a login page, a consent page and a small resource API. Reads DIR, PORT and MODULES (the folder of
// the packages) from the environment, and writes DIR/env and the files that it names.
//
// Clients for client credentials: BASIC_ID and BASIC_SECRET_FILE (client_secret_basic; the secret has characters that
// must be percent-encoded), POST_ID and POST_SECRET_FILE (client_secret_post), and with private_key_jwt RSA_ID, EC_ID,
// ED_ID and DPOP_ID (its tokens are bound by DPoP, with a nonce of the server). Their keys: RSA_KEY_FILE (PKCS#8),
// RSA_PKCS1_KEY_FILE, RSA_ENCRYPTED_KEY_FILE with RSA_PASSPHRASE_FILE, EC_KEY_FILE, EC_SEC1_KEY_FILE, ED_KEY_FILE,
// DPOP_KEY_FILE, and STRANGER_KEY_FILE, which belongs to no client.
// Clients for the authorization code: CONFIDENTIAL_ID and CONFIDENTIAL_SECRET_FILE, PUBLIC_ID, and two whose access tokens
// live for two seconds: SHORT_ID with SHORT_SECRET_FILE and REVOKED_ID with REVOKED_SECRET_FILE. PKCE is required, refresh tokens rotate, and a refresh
// token that is used twice ends the whole grant. The callback may be any port of 127.0.0.1 with the path
// /consent/callback.
// The client with which people sign in to AAM's pages: PAGE_ID and PAGE_SECRET_FILE, with the path /ui/oidc/callback at any
// port of 127.0.0.1 and localhost.
// Users: ACME_USER and GLOBEX_USER, who own the tenants acme and globex, with the password in PASSWORD_FILE. The first is in
// the group aam-operators, and the second in none.
//
// GET /api/account returns the tenant of the token's user (of a client: its own tenant), and GET /api/items its items.
// Both need a token with the scope accounts:read, which is looked up by introspection.
// GET /test/counters?client_id=ID returns how many tokens of a client were issued and rotated, and how many of its grants
// ended. POST /test/revoke?client_id=ID ends its grants, as if its users had removed the application from their accounts.
const { createRequire } = require("node:module");
const { pathToFileURL } = require("node:url");
const crypto = require("node:crypto");
const fs = require("node:fs");
const http = require("node:http");

const { DIR, MODULES } = process.env;
const URL_BASE = `http://127.0.0.1:${process.env.PORT}`;
const SCOPE = "accounts:read";
const USERS = {
  "owner@acme.example": { tenant: "acme", name: "Acme Corporation", groups: ["staff", "aam-operators"] },
  "owner@globex.example": { tenant: "globex", name: "Globex" },
};
const ITEMS = Array.from({ length: 30 }, (_, id) => ({ id, title: `Item ${id}` }));

const env = {
  URL: URL_BASE,
  TOKEN_URL: `${URL_BASE}/token`,
  AUTHORIZE_URL: `${URL_BASE}/auth`,
  REVOKE_URL: `${URL_BASE}/token/revocation`,
  API_URL: `${URL_BASE}/api`,
  ACME_USER: "owner@acme.example",
  GLOBEX_USER: "owner@globex.example",
};

function secretFile(name, content) {
  const path = `${DIR}/${name.toLowerCase()}`;
  fs.writeFileSync(path, content, { mode: 0o600 });
  env[name] = path;
  return content;
}

const random = () => crypto.randomBytes(24).toString("hex");
const password = secretFile("PASSWORD_FILE", random());

// The private keys, in all forms in which vendors hand them out.
const pem = (key, type, options) => key.export({ format: "pem", type, ...options });
const keys = {
  RSA: crypto.generateKeyPairSync("rsa", { modulusLength: 2048 }),
  EC: crypto.generateKeyPairSync("ec", { namedCurve: "P-256" }),
  ED: crypto.generateKeyPairSync("ed25519"),
  DPOP: crypto.generateKeyPairSync("ec", { namedCurve: "P-256" }),
};
for (const [name, pair] of Object.entries(keys)) secretFile(`${name}_KEY_FILE`, pem(pair.privateKey, "pkcs8"));
const passphrase = secretFile("RSA_PASSPHRASE_FILE", random());
secretFile("RSA_PKCS1_KEY_FILE", pem(keys.RSA.privateKey, "pkcs1"));
secretFile("RSA_ENCRYPTED_KEY_FILE", pem(keys.RSA.privateKey, "pkcs8", { cipher: "aes-256-cbc", passphrase }));
secretFile("EC_SEC1_KEY_FILE", pem(keys.EC.privateKey, "sec1"));
const stranger = crypto.generateKeyPairSync("rsa", { modulusLength: 2048 });
secretFile("STRANGER_KEY_FILE", pem(stranger.privateKey, "pkcs8"));
const jwks = (name, more) => ({ keys: [{ ...keys[name].publicKey.export({ format: "jwk" }), ...more }] });

function machine(name, metadata) {
  env[`${name}_ID`] = `aam-${name.toLowerCase()}`;
  return {
    client_id: env[`${name}_ID`],
    grant_types: ["client_credentials"],
    redirect_uris: [],
    response_types: [],
    scope: SCOPE,
    tenant: "acme",
    ...metadata,
  };
}

function application(name, metadata) {
  env[`${name}_ID`] = `aam-${name.toLowerCase()}`;
  return {
    client_id: env[`${name}_ID`],
    client_name: "AAM",
    application_type: "native", // any port of the loopback address (RFC 8252, section 7.3)
    grant_types: ["authorization_code", "refresh_token"],
    redirect_uris: ["http://127.0.0.1/consent/callback"],
    response_types: ["code"],
    scope: `openid offline_access ${SCOPE}`,
    ...metadata,
  };
}

const withSecret = (name, method, more) => {
  // The characters behind the random part must be percent-encoded in HTTP Basic (RFC 6749, section 2.3.1).
  const client_secret = secretFile(`${name}_SECRET_FILE`, `${random()}:/+%= &`);
  return { client_secret, token_endpoint_auth_method: method, ...more };
};

const clients = [
  machine("BASIC", withSecret("BASIC", "client_secret_basic")),
  machine("POST", withSecret("POST", "client_secret_post")),
  machine("RSA", { token_endpoint_auth_method: "private_key_jwt", jwks: jwks("RSA", { kid: "rsa-1" }) }),
  machine("EC", { token_endpoint_auth_method: "private_key_jwt", jwks: jwks("EC", { kid: "ec-1" }) }),
  machine("ED", { token_endpoint_auth_method: "private_key_jwt", jwks: jwks("ED", { kid: "ed-1" }) }),
  machine("DPOP", {
    token_endpoint_auth_method: "private_key_jwt",
    jwks: jwks("DPOP", { kid: "dpop-1" }),
    dpop_bound_access_tokens: true,
  }),
  application("CONFIDENTIAL", withSecret("CONFIDENTIAL", "client_secret_basic")),
  application("PUBLIC", { token_endpoint_auth_method: "none" }),
  application("SHORT", withSecret("SHORT", "client_secret_post", { seconds: 2 })),
  application("REVOKED", withSecret("REVOKED", "client_secret_post", { seconds: 2 })),
  application("PAGE", withSecret("PAGE", "client_secret_basic", {
    grant_types: ["authorization_code"],
    redirect_uris: ["http://127.0.0.1/ui/oidc/callback", "http://localhost/ui/oidc/callback"],
    scope: "openid email groups",
  })),
];

// The resource API, a client of its own that asks the server about each token (RFC 7662).
const api = { client_id: "resource-api", client_secret: random() };
clients.push({ ...api, redirect_uris: [], response_types: [], grant_types: [], token_endpoint_auth_method: "client_secret_post" });

const counters = new Map();
const grants = new Map();
const countersOf = (client) => {
  if (!counters.has(client)) counters.set(client, { access_tokens: 0, refresh_tokens: 0, refresh_tokens_used: 0, grants_revoked: 0 });
  return counters.get(client);
};

const configuration = {
  clients,
  clientDefaults: { id_token_signed_response_alg: "ES256" },
  extraClientMetadata: { properties: ["tenant", "seconds"] },
  scopes: ["openid", "offline_access", SCOPE],
  claims: { openid: ["sub"], email: ["email", "email_verified"], groups: ["groups"] },
  // The claims of a scope are in the ID token too, as most issuers have them.
  conformIdTokenClaims: false,
  findAccount: (_, id) =>
    USERS[id] && {
      accountId: id,
      claims: () => ({ sub: id, email: id, email_verified: true, ...(USERS[id].groups && { groups: USERS[id].groups }) }),
    },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  ttl: {
    AccessToken: (_, token, client) => client?.seconds ?? 3600,
    AuthorizationCode: 60,
    ClientCredentials: 3600,
    Grant: 86400,
    IdToken: 3600,
    Interaction: 3600,
    RefreshToken: 86400,
    Session: 86400,
  },
  cookies: { keys: [random()] },
  jwks: { keys: [{ ...crypto.generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ format: "jwk" }), kid: "issuer-1" }] },
  enabledJWA: {
    clientAuthSigningAlgValues: ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA", "Ed25519"],
    idTokenSigningAlgValues: ["ES256"],
  },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    dPoP: { enabled: true, nonceSecret: crypto.randomBytes(32), requireNonce: () => true },
    introspection: { enabled: true, allowedPolicy: (_, client) => client.clientId === api.client_id },
    revocation: { enabled: true },
  },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
};

const escape = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

function page(response, title, body, status = 200) {
  response.writeHead(status, { "content-type": "text/html; charset=utf-8" });
  response.end(`<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escape(title)}</title><h1>${escape(title)}</h1>${body}</html>`);
}

async function form(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return new URLSearchParams(Buffer.concat(chunks).toString("utf8"));
}

const loginForm = (uid, note = "") => `<p>${note}</p><form method="post" action="/interaction/${uid}">
<p><label>User <input name="user" autocomplete="off"></label></p>
<p><label>Password <input name="password" type="password"></label></p>
<button name="action" value="login">Sign in</button></form>`;

async function interaction(provider, request, response) {
  const details = await provider.interactionDetails(request, response);
  const { uid, prompt, params, session } = details;
  if (request.method === "GET" && prompt.name === "login") return page(response, "Sign in", loginForm(uid));
  if (request.method === "GET") {
    return page(response, "Allow access", `<p>Signed in as <b>${escape(session.accountId)}</b></p>
<p><b>${escape(params.client_id)}</b> asks for: <code>${escape(params.scope)}</code></p>
<form method="post" action="/interaction/${uid}"><button name="action" value="allow">Allow</button>
<button name="action" value="deny">Deny</button></form>`);
  }
  const fields = await form(request);
  const finish = (result) => provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
  switch (fields.get("action")) {
    case "login": {
      const user = fields.get("user");
      if (!USERS[user] || fields.get("password") !== password) {
        return page(response, "Sign in", loginForm(uid, "The user or the password is wrong."), 401);
      }
      return finish({ login: { accountId: user } });
    }
    case "allow": {
      const known = details.grantId && (await provider.Grant.find(details.grantId));
      const grant = known || new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
      if (prompt.details.missingOIDCScope) grant.addOIDCScope(prompt.details.missingOIDCScope.join(" "));
      if (prompt.details.missingOIDCClaims) grant.addOIDCClaims(prompt.details.missingOIDCClaims);
      return finish({ consent: { grantId: await grant.save() } });
    }
    default:
      return finish({ error: "access_denied", error_description: "the user did not allow the access" });
  }
}

const json = (response, status, value, headers = {}) => {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(value));
};

async function introspect(token) {
  const body = new URLSearchParams({ ...api, token });
  const answer = await fetch(`${URL_BASE}/token/introspection`, { method: "POST", body });
  return answer.json();
}

async function resource(request, response, path) {
  const [scheme, token] = (request.headers.authorization ?? "").split(" ");
  if (scheme !== "Bearer" || !token) return json(response, 401, { error: "missing_token" }, { "www-authenticate": "Bearer" });
  const facts = await introspect(token);
  if (!facts.active) {
    const challenge = 'Bearer error="invalid_token", error_description="The access token is not valid any more"';
    return json(response, 401, { error: "invalid_token" }, { "www-authenticate": challenge });
  }
  if (!(facts.scope ?? "").split(" ").includes(SCOPE)) {
    const challenge = `Bearer error="insufficient_scope", scope="${SCOPE}"`;
    return json(response, 403, { error: "insufficient_scope", scope: SCOPE }, { "www-authenticate": challenge });
  }
  const client = clients.find((known) => known.client_id === facts.client_id);
  const account = USERS[facts.sub] ?? { tenant: client?.tenant, name: facts.client_id };
  switch (path) {
    case "/api/account":
      return json(response, 200, { tenant: account.tenant, name: account.name, user: facts.sub ?? facts.client_id });
    case "/api/items":
      return json(response, 200, ITEMS.map((item) => ({ ...item, tenant: account.tenant })));
    default:
      return json(response, 404, { error: "not_found" });
  }
}

async function main() {
  const { Provider } = await import(pathToFileURL(createRequire(`${MODULES}/index.js`).resolve("oidc-provider")));
  const provider = new Provider(URL_BASE, configuration);
  const count = (event, name) => provider.on(event, (token) => (countersOf(token.clientId)[name] += 1));
  count("access_token.saved", "access_tokens");
  count("client_credentials.saved", "access_tokens");
  count("refresh_token.saved", "refresh_tokens");
  count("refresh_token.consumed", "refresh_tokens_used");
  provider.on("refresh_token.saved", (token) => grants.set(token.grantId, token.clientId));
  provider.on("grant.revoked", (_, id) => (countersOf(grants.get(id)).grants_revoked += 1));
  provider.on("server_error", (_, error) => console.error(error));
  const handle = provider.callback();
  const server = http.createServer(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url, URL_BASE);
    const client = searchParams.get("client_id");
    try {
      if (pathname.startsWith("/interaction/")) return await interaction(provider, request, response);
      if (pathname.startsWith("/api/")) return await resource(request, response, pathname);
      if (pathname === "/test/counters") return json(response, 200, countersOf(client));
      if (pathname === "/test/revoke" && request.method === "POST") {
        const ended = [...grants].filter(([, owner]) => owner === client).map(([id]) => id);
        for (const id of ended) {
          await provider.RefreshToken.adapter.revokeByGrantId(id);
          await provider.AccessToken.adapter.revokeByGrantId(id);
          await (await provider.Grant.find(id))?.destroy();
        }
        return json(response, 200, { revoked: ended.length });
      }
      return handle(request, response);
    } catch (error) {
      console.error(error);
      if (!response.headersSent) page(response, "Error", `<p>${escape(error.message)}</p>`, 400);
    }
  });
  fs.writeFileSync(`${DIR}/env`, Object.entries(env).map(([name, value]) => `${name}=${value}\n`).join(""));
  server.listen(Number(process.env.PORT), "127.0.0.1");
}
main();
