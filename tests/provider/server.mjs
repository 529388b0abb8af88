// An OpenID Connect provider with three accounts, for the tests of the console's sign-in. It prints its address when
// it is ready. Any password is right. Arguments: port, client id, redirect URI.

import { Provider } from "oidc-provider";

const [port, client_id, redirectUri] = process.argv.slice(2);
const RESOURCE = "https://tracking.example.com";

/** What is in the access tokens of each account, beside the standard claims. */
const accounts = {
  ada: { merchants: ["acme", "bravo"], roles: ["dispatcher"] },
  vera: { merchants: ["acme"], roles: ["viewer"] },
  newcomer: { roles: ["viewer"] },
};
let tokenSeconds = 600;

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    {
      client_id,
      token_endpoint_auth_method: "none",
      grant_types: ["authorization_code", "refresh_token"],
      redirect_uris: [redirectUri],
      post_logout_redirect_uris: [redirectUri],
    },
  ],
  cookies: { keys: ["only-for-tests"] },
  clientBasedCORS: (_context, origin) => origin === new URL(redirectUri).origin,
  extraTokenClaims: (_context, token) => accounts[token.accountId],
  findAccount: (_context, sub) => (Object.hasOwn(accounts, sub) ? { accountId: sub, claims: () => ({ sub }) } : undefined),
  issueRefreshToken: () => true,
  loadExistingGrant,
  features: {
    devInteractions: { enabled: true },
    revocation: { enabled: true },
    rpInitiatedLogout: { logoutSource: endWithoutQuestion },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: () => ({
        accessTokenFormat: "jwt",
        accessTokenTTL: tokenSeconds,
        audience: RESOURCE,
        scope: "orders",
      }),
    },
  },
});

/** Nobody is asked for consent: the console is a part of the same house. */
async function loadExistingGrant({ oidc }) {
  const grant = new oidc.provider.Grant({ accountId: oidc.session.accountId, clientId: oidc.client.clientId });
  grant.addOIDCScope("openid");
  grant.addResourceScope(RESOURCE, "orders");
  await grant.save();
  return grant;
}

function endWithoutQuestion(context, form) {
  context.body = `<!doctype html><title>Signing out</title>${form}<button form="op.logoutForm" name="logout" value="yes">Yes, sign me out</button>`;
}

// The tests choose how long tokens are valid. The provider's pages for development import a font from another host.
provider.use(async (context, next) => {
  const asked = new URL(context.url, "http://provider");
  if (asked.pathname !== "/test") {
    await next();
    if (typeof context.body === "string") context.body = context.body.replace(/@import url\([^)]*\);/g, "");
    return;
  }
  tokenSeconds = Number(asked.searchParams.get("token_seconds"));
  context.status = 204;
});

provider.listen(Number(port), "127.0.0.1", () => console.log(provider.issuer));
