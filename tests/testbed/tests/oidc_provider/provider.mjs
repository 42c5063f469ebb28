// SPDX-License-Identifier: MIT OR Apache-2.0
// An OpenID provider for stories: npm's oidc-provider, with its own pages for login and consent.
//
//     node provider.mjs ISSUER CERTIFICATE KEY
//
// Anybody logs in with any password, and is who he says. Tokens for a resource that ends with /opaque are opaque, those
// for other resources JWTs. Both have the resource without /opaque as audience. Tokens for no resource are for userinfo.
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';

import Provider from 'oidc-provider';

const [issuer, certificate, key] = process.argv.slice(2);

const OPAQUE = '/opaque';

function signingKey(kid, alg, type, options) {
  return { ...generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }), kid, alg, use: 'sig' };
}

const provider = new Provider(issuer, {
  // A user's client, and this site, which only asks about tokens.
  clients: [
    { client_id: 'portal', client_secret: 'portal-secret', redirect_uris: [`${issuer}/arrived`], grant_types: ['authorization_code'] },
    { client_id: 'site', client_secret: 'site-secret', redirect_uris: [], response_types: [], grant_types: [] },
  ],
  jwks: { keys: [signingKey('r', 'RS256', 'rsa', { modulusLength: 2048 }), signingKey('e', 'ES256', 'ec', { namedCurve: 'P-256' })] },
  cookies: { keys: ['of no value'] },
  scopes: ['openid', 'profile', 'storage.read'],
  claims: { openid: ['sub'], profile: ['preferred_username'] },
  findAccount: (_context, id) => ({ accountId: id, claims: () => ({ sub: id, preferred_username: id }) }),
  // Tokens for userinfo lack it, so that only userinfo tells it.
  extraTokenClaims: (_context, token) => (token.aud ? { preferred_username: token.accountId } : undefined),
  pkce: { required: () => false },
  ttl: { AccessToken: 600, AuthorizationCode: 60, IdToken: 600, Session: 600, Interaction: 600, Grant: 600 },
  features: {
    devInteractions: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_context, resource) => ({
        scope: 'openid profile storage.read',
        audience: resource.endsWith(OPAQUE) ? resource.slice(0, -OPAQUE.length) : resource,
        accessTokenTTL: 600,
        accessTokenFormat: resource.endsWith(OPAQUE) ? 'opaque' : 'jwt',
        jwt: { sign: { alg: resource.includes('es256') ? 'ES256' : 'RS256' } },
      }),
      useGrantedResource: () => true,
    },
  },
});

const port = new URL(issuer).port;
createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, provider.callback()).listen(port);
