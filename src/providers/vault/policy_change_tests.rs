//! What happens to tokens and leases when the policy in force names another vault, or none.

use super::tests::{Setup, runtime};
use super::token::lock;
use super::*;
use crate::policy::parse::parse;

#[test]
fn a_vault_that_the_policy_does_not_name_any_more_gets_everything_back_and_is_not_called_again() {
    const LOGIN: &str = "{method: approle, role_id: \"env:ROLE\", secret_id: \"env:SECRET\"}";
    let policy = |credentials: &str| {
        let head = "version: 1\nallowlist: [openapi]\ncredentials:";
        Arc::new(parse(&format!("{head} {{{credentials}}}\n"), "p").unwrap())
    };
    let vault = |login: &str| policy(&format!("vault: {{address: \"https://vault.acme.example\", kv_ttl: 1h, login: {login}}}"));
    for (changed, stays) in [
        (policy("secrets_dir: var/secrets"), false),
        (vault(&LOGIN.replace("env:SECRET", "env:OTHER")), false),
        (policy(&format!("secrets_dir: other, vault: {{address: \"https://vault.acme.example\", login: {LOGIN}}}")), false),
        (vault(LOGIN), true),
    ] {
        let setup = Setup::new((600, 6000), (600, 6000));
        runtime().block_on(async {
            setup.providers.set_policy(&setup.policy);
            setup.read(1, "vault:aws/creds/reader").await.unwrap();
            setup.read(1, "vault:kv/a#token").await.unwrap();
            setup.providers.set_policy(&changed);
            setup.providers.vault.keep_all(&setup.providers).await;
            assert_eq!(lock(&setup.vault).tokens.values().all(|token| token.revoked), !stays);
            assert_eq!(setup.providers.vault.next_end().is_some(), stays);
            let renewed = lock(&setup.vault).tokens.values().map(|token| token.end).max();
            setup.pass(500, 500, 500);
            setup.providers.vault.keep_all(&setup.providers).await;
            let now = lock(&setup.vault).tokens.values().map(|token| token.end).max();
            assert_eq!(now > renewed, stays, "the token is renewed only if the policy in force names the vault");
        });
    }
}
