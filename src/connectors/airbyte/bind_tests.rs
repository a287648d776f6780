use super::*;
use crate::credentials::Secret;
use crate::families::CustomSources;
use crate::policy::{LoadedPolicy, parse};
use serde_json::json;

fn loaded(name: &str, section: &str) -> LoadedPolicy {
    let text = format!("version: 1\nallowlist: [{name}]\n{section}");
    LoadedPolicy::new(parse::parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{problems:?}")))
}

fn bind(loaded: &LoadedPolicy, name: &str, id: &str) -> Result<Box<dyn BoundResource>, Failure> {
    let sources: &CustomSources = &loaded.sources;
    let family = sources.family(name).expect("a source");
    assert_eq!(family.engine, "airbyte");
    AirbyteEngine::new().bind(BindRequest { family, policy: &loaded.policy, resource_id: id })
}

const ACME: &str = "airbyte:\n  connectors:\n    acme:\n      run: [/opt/acme/bin/source]\n      config: {org: \"{resource_id}\", token: \"{credential.token}\"}\n      hosts: [api.acme.example, \"{resource_id}.acme.example\"]\n      posts: [{url: \"https://api.acme.example/search\", why: reads, body: {json: {q: any}}}]\n";

#[test]
fn binding_names_the_program_the_hosts_and_the_posts_before_anything_runs() {
    let bound = bind(&loaded("acme", ACME), "acme", "north").expect("bound");
    assert_eq!(bound.credential_need(), CredentialNeed::Required);
    assert_eq!(bound.account(), "https://api.acme.example");
    let calls = json!(bound.planned_calls());
    assert_eq!(calls[0], json!({"method": "RUN", "host": "local", "path": "command /opt/acme/bin/source"}));
    assert_eq!(calls[2]["host"], "north.acme.example");
    assert_eq!(calls[3], json!({"method": "POST", "host": "api.acme.example", "path": "/search"}));
    assert!(bound.free_hosts().is_empty());
    let failure = bound.authorize(None).err().expect("no credential");
    assert_eq!((failure.class, failure.title.as_str()), (Class::CredentialMissing, "acme needs a credential with token"));
    let credential = Credential::read(Secret::new("canary-77".to_string()));
    let authorized =
        bind(&loaded("acme", ACME), "acme", "north").expect("bound").authorize(Some(credential)).expect("authorized");
    assert_eq!(authorized.posts.list, "airbyte.connectors.acme.posts in the policy");
    assert_eq!(authorized.posts.rules.len(), 1);
}

#[test]
fn a_resource_id_that_ends_the_host_and_an_image_are_refused() {
    let failure = bind(&loaded("acme", ACME), "acme", "evil.example/").err().expect("two hosts");
    assert_eq!(failure.class, Class::NotMappable);
    let image = "airbyte: {connectors: {okta: {run: {image: airbyte/source-okta}, version: \"1\"}}}\n";
    let failure = bind(&loaded("okta", image), "okta", "acme.okta.com").err().expect("an image");
    assert_eq!(failure.class, Class::Unsupported);
}
