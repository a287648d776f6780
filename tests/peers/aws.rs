//! Service principals of the kind `aws` against moto in auth mode, which verifies signatures, the policies of users and roles,
//! and trust policies. `scripts/peers/moto_server.py` says what it adds to moto, and what moto does not check.

use crate::daemon::sources::policy;
use crate::harness::variable;
use crate::support::aws::{Rig, field};
use crate::support::daemon::{Workspace, intent_with_locator};
use aam::credentials::Secret;
use aam::credentials::sigv4::{Keys, Scope, Unsigned, sign};
use aam::model::{Class, Timestamp};
use aam::providers::{ProvidedCredential, Reading};
use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

peer_tests! {
    [Moto]: the_binary_connects_by_static_keys_an_assumed_role_and_a_web_identity,
        the_session_policy_denies_a_write_that_the_role_may_do, a_wrong_external_id_and_a_stranger_are_refused_with_a_trust_policy,
        web_identity_tokens_are_verified;
}

fn moto(name: &str) -> String {
    variable("MOTO", name)
}

/// The keys of a user of the seed, as JSON.
fn keys_of(user: &str) -> String {
    json!({"access_key_id": moto(&format!("{user}_KEY_ID")), "secret_access_key": moto(&format!("{user}_SECRET"))}).to_string()
}

fn role_principal(external_id: &str) -> String {
    format!(
        "{{kind: aws, keys: \"env:AWS_KEYS\", role_arn: \"{}\", external_id: \"{external_id}\", sts_url: \"{}\"}}",
        moto("ROLE"),
        moto("ENDPOINT")
    )
}

fn web_principal(file: &std::path::Path) -> String {
    let (role, url) = (moto("FEDERATED_ROLE"), moto("ENDPOINT"));
    format!("{{kind: aws, web_identity_token_file: \"{}\", role_arn: \"{role}\", sts_url: \"{url}\"}}", file.display())
}

async fn the_binary_connects_by_static_keys_an_assumed_role_and_a_web_identity() {
    let mut workspace = Workspace::new();
    let at = moto("ENDPOINT");
    let token_file = workspace.path("web-token");
    std::fs::write(&token_file, moto("WEB_TOKEN")).expect("written");
    workspace.set("AWS_KEYS", &keys_of("ASSUMER"));
    workspace.set("AUDITOR_KEYS", &keys_of("AUDITOR"));
    workspace.write_policy(&policy(
        "1h",
        &format!(
            "families: {{s3: {{base_url: \"{at}\"}}}}\ncredentials:\n  principals:\n    \
             auditor: {{kind: aws, keys: \"env:AUDITOR_KEYS\"}}\n    role: {}\n    wrong: {}\n    web: {}\n",
            role_principal(&moto("EXTERNAL_ID")).replace("{kind: aws,", "{kind: aws, session_name: binary,"),
            role_principal("another:id"),
            web_principal(&token_file)
        ),
    ));
    let daemon = workspace.serve().await;
    for (source_type, id, principal, verdict) in [
        ("s3_compat", format!("{at}/aam-landing/events"), "auditor", "unknown"),
        ("s3_compat", format!("{at}/aam-landing"), "role", "ok"),
        ("s3_compat", format!("{at}/aam-landing/orders"), "role", "ok"),
        ("s3", "arn:aws:s3:::aam-landing".to_string(), "web", "ok"),
    ] {
        let response = daemon.push(&intent_with_locator(source_type, &id, &format!("sp:{principal}"))).await;
        assert_eq!((response.status, &response.body["status"]), (201, &json!("ACTIVE")), "{principal}: {}", response.body);
        let upsert = step(&response.body, "upsert");
        assert_eq!(upsert["evidence"]["privilege"]["verdict"], verdict, "{principal}: {upsert}");
        let credential = step(&response.body, "credential");
        assert_eq!(
            (&credential["evidence"]["provider"], &credential["evidence"]["kind"]),
            (&json!("sp"), &json!("aws")),
            "{credential}"
        );
        if verdict == "ok" {
            assert_eq!(credential["evidence"]["session_policy"], "allows reading only", "{credential}");
            assert!(credential["evidence"]["valid_until"].is_string(), "{credential}");
        }
    }
    let response = daemon.push(&intent_with_locator("s3_compat", &format!("{at}/aam-frankfurt"), "sp:wrong")).await;
    let failure = &step(&response.body, "credential")["failure"];
    assert_eq!(failure["class"], "permission_denied", "{}", response.body);
    assert!(failure["fix"].to_string().contains("sts:ExternalId"), "{failure}");
    // Two connections of the principal `role`, and one session.
    // Other tests assume the same role at the same time, under other names of the session.
    let mut sessions = assumed_roles("writer").await;
    sessions.retain(|session| session["session_name"] == "binary");
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    assert!(sessions[0]["policy"].to_string().contains("AamDoesNothingElse"), "{sessions:?}");
    drop(daemon);
    let secrets = [moto("ASSUMER_SECRET"), moto("AUDITOR_SECRET"), secret_of(&sessions[0], "secret_access_key")];
    for (path, bytes) in workspace.files().into_iter().filter(|(path, _)| *path != token_file) {
        let text = String::from_utf8_lossy(&bytes);
        assert!(secrets.iter().all(|secret| !text.contains(secret)) && !text.contains(&moto("WEB_TOKEN")), "{}", path.display());
    }
}

fn step(body: &Value, name: &str) -> Value {
    let steps = body["steps"].as_array().cloned().unwrap_or_default();
    steps.into_iter().find(|step| step["step"] == name).unwrap_or_default()
}

fn secret_of(session: &Value, name: &str) -> String {
    let secret = session[name].as_str().unwrap_or_default().to_string();
    assert!(secret.len() > 10, "{session}");
    secret
}

/// The sessions that moto issued for a role.
async fn assumed_roles(role: &str) -> Vec<Value> {
    let url = format!("{}/moto-api/data.json", moto("ENDPOINT"));
    let data: Value = reqwest::get(url).await.expect("a response").json().await.expect("JSON");
    let all = data["sts"]["AssumedRole"].as_array().cloned().unwrap_or_default();
    all.into_iter().filter(|session| session["role_arn"].as_str().is_some_and(|arn| arn.ends_with(&format!("/{role}")))).collect()
}

/// Sends a signed request and returns the status and the body.
async fn signed(method: &str, url: &str, (service, form): (&str, &str), keys: &Keys) -> (u16, String) {
    let url = url::Url::parse(url).expect("a URL");
    let hash = HEXLOWER.encode(digest(&SHA256, form.as_bytes()).as_ref());
    let content = [("content-type", "application/x-www-form-urlencoded")];
    let unsigned = Unsigned { method, url: &url, headers: &content, payload_sha256: &hash };
    let at = Timestamp(jiff::Timestamp::now().as_millisecond());
    let headers = sign(unsigned, keys, Scope { service, region: "us-east-1" }, at);
    let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
    let mut request = reqwest::Client::new().request(method, url).header(content[0].0, content[0].1).body(form.to_string());
    for (name, value) in headers {
        request = request.header(name, value.expose());
    }
    let response = request.send().await.expect("a response");
    (response.status().as_u16(), response.text().await.expect("a body"))
}

fn keys(provided: &ProvidedCredential) -> Keys {
    let secret = |name: &str| Secret::new(field(provided, name));
    Keys {
        access_key_id: secret("access_key_id"),
        secret_access_key: secret("secret_access_key"),
        session_token: Some(secret("session_token")),
    }
}

async fn the_session_policy_denies_a_write_that_the_role_may_do() {
    let at = moto("ENDPOINT");
    let object = format!("{at}/empty-bucket/written");
    let rig = Rig::new(&role_principal(&moto("EXTERNAL_ID")));
    rig.set("AWS_KEYS", &keys_of("ASSUMER"));
    let minted = rig.provide(Reading::Cached).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    let (status, body) = signed("PUT", &object, ("s3", "1"), &keys(&minted)).await;
    assert!(status == 403 && body.contains("AccessDenied"), "{status} {body}");
    let (status, body) = signed("DELETE", &format!("{at}/aam-landing/README.txt"), ("s3", ""), &keys(&minted)).await;
    assert!(status == 403 && body.contains("AccessDenied"), "{status} {body}");
    let (status, body) = signed("GET", &format!("{at}/aam-landing?list-type=2"), ("s3", ""), &keys(&minted)).await;
    assert!(status == 200 && body.contains("README.txt"), "{status} {body}");

    // Without the session policy the same role writes, so it is the session policy that denied it.
    let new = |name: &str| Secret::new(moto(name));
    let user = Keys { access_key_id: new("ASSUMER_KEY_ID"), secret_access_key: new("ASSUMER_SECRET"), session_token: None };
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("Action", "AssumeRole")
        .append_pair("Version", "2011-06-15")
        .append_pair("RoleArn", &moto("ROLE"))
        .append_pair("RoleSessionName", "without-a-policy")
        .append_pair("ExternalId", &moto("EXTERNAL_ID"))
        .finish();
    let (status, body) = signed("POST", &format!("{at}/"), ("sts", &form), &user).await;
    assert_eq!(status, 200, "{body}");
    let part = |name: &str| {
        let rest = body.split_once(&format!("<{name}>")).map(|(_, rest)| rest).unwrap_or_default();
        Secret::new(rest.split('<').next().unwrap_or_default().to_string())
    };
    let unlimited = Keys {
        access_key_id: part("AccessKeyId"),
        secret_access_key: part("SecretAccessKey"),
        session_token: Some(part("SessionToken")),
    };
    let (status, body) = signed("PUT", &object, ("s3", "1"), &unlimited).await;
    assert_eq!(status, 200, "{body}");
    let (status, _) = signed("DELETE", &object, ("s3", ""), &unlimited).await;
    assert_eq!(status, 204);
}

async fn a_wrong_external_id_and_a_stranger_are_refused_with_a_trust_policy() {
    let right = moto("EXTERNAL_ID");
    for (user, id) in [("ASSUMER", "another:id"), ("UNPRIVILEGED", right.as_str())] {
        let rig = Rig::new(&role_principal(id));
        rig.set("AWS_KEYS", &keys_of(user));
        let failure = rig.failure().await;
        assert_eq!(failure.class, Class::PermissionDenied, "{failure:?}");
        let arn = format!("arn:aws:iam::123456789012:user/{}", user.to_lowercase());
        assert!(failure.title.starts_with(&arn), "{failure:?}");
        assert!(failure.fix.contains(&format!(r#""Principal":{{"AWS":"{arn}"}}"#)) && failure.fix.contains(id), "{failure:?}");
    }
    let rig = Rig::new(&role_principal(&right));
    let mut wrong: Value = serde_json::from_str(&keys_of("ASSUMER")).expect("JSON");
    wrong["secret_access_key"] = "canary-of-a-wrong-secret".into();
    rig.set("AWS_KEYS", &wrong.to_string());
    let failure = rig.failure().await;
    assert!(failure.class == Class::CredentialRejected && failure.title.contains("secret access key"), "{failure:?}");
    wrong["access_key_id"] = "AKIANOBODY".into();
    rig.set("AWS_KEYS", &wrong.to_string());
    let failure = rig.failure().await;
    assert!(failure.class == Class::CredentialRejected && failure.title.contains("access key id"), "{failure:?}");
}

async fn web_identity_tokens_are_verified() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    let rig = Rig::new(&web_principal(&file));
    for (token, class, part) in [
        ("WEB_TOKEN_AUDIENCE", Class::CredentialRejected, "https://oidc.example/id/ACME"),
        ("WEB_TOKEN_SUBJECT", Class::PermissionDenied, r#""oidc.example/id/ACME:sub":"system:serviceaccount:aam:other""#),
        ("WEB_TOKEN_EXPIRED", Class::CredentialRejected, "AAM reads it at each mint"),
    ] {
        std::fs::write(&file, moto(token)).expect("written");
        let failure = rig.failure().await;
        assert!(failure.class == class && failure.fix.contains(part), "{token}: {failure:?}");
    }
    std::fs::write(&file, moto("WEB_TOKEN")).expect("written");
    let minted = rig.provide(Reading::Cached).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    let object = format!("{}/empty-bucket/written", moto("ENDPOINT"));
    let (status, body) = signed("PUT", &object, ("s3", "1"), &keys(&minted)).await;
    assert!(status == 403 && body.contains("AccessDenied"), "{status} {body}");
}
