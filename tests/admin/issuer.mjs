// A real issuer of OpenID Connect for tests: oidc-provider, with its own forms, which take any name and password.
// RATER_ISSUER is the folder that has it. node issuer.mjs PORT
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const require = createRequire(`${process.env.RATER_ISSUER}/`);
const { Provider } = await import(pathToFileURL(require.resolve('oidc-provider')));
const port = Number(process.argv[2]);
const groups = {
  ida: ['staff', 'billing-admins'], olga: ['billing-operators'], nemo: ['staff'], vera: ['billing-admins'],
};

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{
    client_id: 'rater-console', client_secret: 'a secret: with %7E & more',
    redirect_uris: [process.env.RATER_ISSUER_BACK],
  }],
  pkce: { required: () => true },
  claims: { openid: ['sub'], profile: ['preferred_username'], groups: ['groups'] },
  scopes: ['openid', 'profile', 'groups'],
  findAccount: (ctx, id) => ({
    accountId: id, claims: () => ({ sub: id, preferred_username: id, groups: groups[id] ?? [] }),
  }),
  // Who logs in has agreed to what is told of him.
  loadExistingGrant: async (ctx) => {
    const grant = new ctx.oidc.provider.Grant({
      clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId,
    });
    grant.addOIDCScope('openid profile groups');
    await grant.save();
    return grant;
  },
});
provider.listen(port, '127.0.0.1');
