// A real OpenID Connect provider on 127.0.0.1, for tests/clients/oidc.py.
//
//     node provider.mjs MODULES KEY CERTIFICATE REDIRECT_URI
//
// MODULES is where `tests/setup/tools oidc` installed it. Prints `ready <port>` once it listens. Clients: `robot` and `stranger` get
// signed access tokens (JWT), `opaque` gets others; `cloud` is Solostack itself, for sign-ins and introspection. Anybody who types
// a name and any password is that person.
import { createServer } from "node:https";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [modules, key, certificate, redirect] = process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(`${modules}/node_modules/oidc-provider/lib/index.js`));

const server = createServer({ key: readFileSync(key), cert: readFileSync(certificate) });
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const { port } = server.address();

const robot = (id) => ({
  client_id: id,
  client_secret: `secret of ${id}`,
  grant_types: ["client_credentials"],
  redirect_uris: [],
  response_types: [],
});
const audiences = { robot: "urn:solostack", stranger: "urn:another-cloud" };
const claims = (id) => ({ preferred_username: id, email: `${id}@acme.test`, groups: ["devs", "unknown here"] });

const provider = new Provider(`https://127.0.0.1:${port}`, {
  clients: [
    robot("robot"),
    robot("stranger"),
    robot("opaque"),
    {
      client_id: "cloud",
      client_secret: "secret: of the cloud & more",
      grant_types: ["authorization_code"],
      redirect_uris: [redirect],
      response_types: ["code"],
    },
  ],
  claims: { openid: ["sub"], profile: ["preferred_username", "groups"], email: ["email"] },
  // ID tokens carry what was asked for, as most providers have it.
  conformIdTokenClaims: false,
  scopes: ["openid", "profile", "email"],
  cookies: { keys: ["only for tests"] },
  pkce: { required: () => true },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...claims(id) }) }),
  extraTokenClaims: (_, token) => claims(token.clientId),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: true },
    introspection: { enabled: true, allowedPolicy: (_, client) => client.clientId === "cloud" },
    resourceIndicators: {
      enabled: true,
      defaultResource: (_, client) => audiences[client.clientId] ?? [],
      getResourceServerInfo: (_, resource) => ({ audience: resource, scope: "openid profile", accessTokenFormat: "jwt" }),
    },
  },
});
provider.on("server_error", (_, error) => console.error(error));
server.on("request", provider.callback());
console.log(`ready ${port}`);
