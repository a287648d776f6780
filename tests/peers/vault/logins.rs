//! The ways to log in to a vault, and tokens that end.

use super::bao::*;
use super::leases::{app_role, heal};
use crate::support::bearer_service::BearerService;
use crate::support::daemon::{Workspace, intent_with_locator, until};
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

peer_tests! {
    [Openbao]: an_app_role_logs_in_again_when_its_token_ends, a_refused_app_role_is_named, a_jwt_is_read_anew_at_each_login,
        a_service_account_logs_in, a_periodic_token_is_renewed, a_token_file_is_read_at_each_use,
        the_token_of_a_login_is_revoked_at_an_orderly_stop;
}

/// A secret, a service that accepts it, and the rule that allows reading it.
struct Secret {
    locator: String,
    rule: String,
    service: BearerService,
}

async fn secret(bao: &Bao) -> Secret {
    let (mount, token) = (bao.kv(2).await, unique("s3cr3t"));
    bao.put(&mount, "github", json!({"token": token})).await;
    Secret {
        locator: format!("vault:{mount}/github#token"),
        rule: format!("path \"{mount}/data/github\" {{ capabilities = [\"read\"] }}"),
        service: BearerService::start(&token).await,
    }
}

fn approle(mount: &str) -> String {
    format!("{{method: approle, mount: {mount}, role_id: \"env:VAULT_ROLE_ID\", secret_id: \"env:VAULT_SECRET_ID\"}}")
}

async fn app_role_workspace(bao: &Bao, rule: &str, settings: Value) -> Workspace {
    let (role_id, secret_id, mount) = app_role(bao, rule, settings).await;
    let mut workspace = Workspace::new();
    workspace.set("VAULT_ROLE_ID", &role_id);
    workspace.set("VAULT_SECRET_ID", &secret_id);
    workspace.write_policy(&section(&bao.url, &approle(&mount), ""));
    workspace
}

/// Heals the connection until `time` has passed; each attempt must pass.
async fn active_for(served: &Served, pushed: &Value, time: Duration) {
    let started = Instant::now();
    until("the time has passed", || async {
        let healed = heal(&served.daemon, pushed).await;
        assert_eq!(healed["status"], "ACTIVE", "after {:?}: {healed}", started.elapsed());
        (started.elapsed() > time, String::new())
    })
    .await;
}

async fn an_app_role_logs_in_again_when_its_token_ends() {
    let bao = Bao::new("DEV");
    let secret = secret(&bao).await;
    let settings = json!({"token_ttl": "4s", "token_max_ttl": "8s"});
    let served = serve(app_role_workspace(&bao, &secret.rule, settings).await).await;
    let pushed = served.daemon.push(&intent_with_locator("openapi", &secret.service.url("a"), &secret.locator)).await.body;
    assert_eq!(pushed["status"], "ACTIVE", "{pushed}");
    active_for(&served, &pushed, Duration::from_secs(10)).await;
    assert!(served.daemon.log().matches("logged in to the vault").count() >= 2, "{}", served.daemon.log());
    // A token that somebody revokes is replaced within the attempt.
    let accessors = bao.call("LIST", "auth/token/accessors", Value::Null).await.1;
    for accessor in accessors["data"]["keys"].as_array().cloned().unwrap_or_default() {
        let found = bao.write("auth/token/lookup-accessor", json!({"accessor": accessor})).await;
        if found["data"]["policies"].to_string().contains("policy-") && found["data"]["meta"]["role_name"] == "aam" {
            // Other tests log in too, and log in again as this one does.
            if found["data"]["creation_ttl"] == 4 {
                bao.call("POST", "auth/token/revoke-accessor", json!({"accessor": accessor})).await;
            }
        }
    }
    assert_eq!(heal(&served.daemon, &pushed).await["status"], "ACTIVE");
}

async fn a_refused_app_role_is_named() {
    let bao = Bao::new("DEV");
    let secret = secret(&bao).await;
    let mut workspace = app_role_workspace(&bao, &secret.rule, json!({})).await;
    workspace.set("VAULT_SECRET_ID", "wrong-secret-id");
    let text = failure(&attempt(&workspace, &secret.service.url("a"), &secret.locator));
    assert!(
        text.contains("refused the AppRole login at auth/approle-") && text.contains("\"invalid role or secret ID\""),
        "{text}"
    );
    assert!(text.contains("role/ROLE/secret-id") && !text.contains("wrong-secret-id"), "{text}");
    workspace.write_policy(&section(&bao.url, &approle("nowhere"), ""));
    let text = failure(&attempt(&workspace, &secret.service.url("a"), &secret.locator));
    assert!(text.contains("check credentials.vault.login.mount"), "{text}");
}

/// A key pair for JWTs: the public key in PEM, and a function that signs claims.
fn signer() -> (String, impl Fn(Value) -> String) {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
    // SubjectPublicKeyInfo of an EC key on P-256 (RFC 5480), before the point.
    const HEAD: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d,
        0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    let public = STANDARD.encode([&HEAD[..], pair.public_key().as_ref()].concat());
    let sign = move |claims: Value| {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(&json!({"alg": "ES256", "typ": "JWT"})), part(&claims));
        let signature = pair.sign(&random, text.as_bytes()).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    };
    (format!("-----BEGIN PUBLIC KEY-----\n{public}\n-----END PUBLIC KEY-----\n"), sign)
}

async fn a_jwt_is_read_anew_at_each_login() {
    let bao = Bao::new("DEV");
    let secret = secret(&bao).await;
    let (mount, policy, (public, sign)) = (unique("jwt"), bao.policy(&secret.rule).await, signer());
    bao.write(&format!("sys/auth/{mount}"), json!({"type": "jwt"})).await;
    let config = json!({"jwt_validation_pubkeys": [public], "bound_issuer": "https://ci.acme.example"});
    bao.write(&format!("auth/{mount}/config"), config).await;
    let role = json!({
        "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["aam"], "bound_subject": "aam", "token_policies": [policy],
        "token_ttl": "3s", "token_max_ttl": "3s",
    });
    bao.write(&format!("auth/{mount}/role/aam"), role).await;
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let jwt = |audience: &str| {
        sign(
            json!({"iss": "https://ci.acme.example", "sub": "aam", "aud": audience, "iat": now(), "nbf": now() - 5, "exp": now() + 300}),
        )
    };
    let workspace = Workspace::new();
    let login = format!("{{method: jwt, mount: {mount}, role: aam, token_file: {}}}", workspace.path("jwt").display());
    workspace.write_policy(&section(&bao.url, &login, ""));
    workspace.replace("jwt", jwt("somebody-else").as_bytes());
    let served = serve(workspace).await;
    let pushed = served.daemon.push(&intent_with_locator("openapi", &secret.service.url("a"), &secret.locator)).await.body;
    assert_eq!(pushed["status"], "AWAITING_CREDENTIALS", "{pushed}");
    let title = credential_step(&pushed)["failure"].to_string();
    assert!(title.contains("refused the JWT login with the role aam") && title.contains("audience"), "{title}");
    served.workspace.replace("jwt", jwt("aam").as_bytes());
    active_for(&served, &pushed, Duration::from_secs(4)).await;
}

/// The review of tokens of the Kubernetes API, for one service account whose token a test may replace.
/// Source: <https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/>.
async fn token_review(accepted: Arc<Mutex<String>>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let review = |State(accepted): State<Arc<Mutex<String>>>, axum::Json(review): axum::Json<Value>| async move {
        let known = review["spec"]["token"].as_str() == Some(accepted.lock().unwrap().as_str());
        let user = json!({"username": "system:serviceaccount:aam:aam", "uid": "7d5a", "groups": ["system:serviceaccounts"]});
        let status = if known {
            json!({"authenticated": true, "user": user})
        } else {
            json!({"authenticated": false, "error": "invalid bearer token"})
        };
        let body =
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": review["spec"], "status": status});
        (axum::http::StatusCode::CREATED, axum::Json(body))
    };
    let app = axum::Router::new()
        .route("/apis/authentication.k8s.io/v1/tokenreviews", axum::routing::post(review))
        .with_state(accepted);
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

async fn a_service_account_logs_in() {
    let bao = Bao::new("DEV");
    let secret = secret(&bao).await;
    let (_, sign) = signer();
    let claims = |id: u32| {
        json!({
            "iss": "https://kubernetes.default.svc", "sub": "system:serviceaccount:aam:aam", "iat": crate::support::vendors::now() - 5, "nbf": crate::support::vendors::now() - 5,
            "exp": crate::support::vendors::now() + 3600, "jti": id.to_string(),
            "kubernetes.io": {"namespace": "aam", "serviceaccount": {"name": "aam", "uid": "7d5a"}},
        })
    };
    let (first, second) = (sign(claims(1)), sign(claims(2)));
    let accepted = Arc::new(Mutex::new(first.clone()));
    let (mount, policy, host) = (unique("kubernetes"), bao.policy(&secret.rule).await, token_review(Arc::clone(&accepted)).await);
    bao.write(&format!("sys/auth/{mount}"), json!({"type": "kubernetes"})).await;
    // The certificate is not used for plain HTTP, but OpenBao wants one outside a cluster.
    let authority = std::fs::read_to_string(crate::harness::variable("OPENBAO", "TLS_CA_FILE")).unwrap();
    let reviewer = sign(claims(0));
    let config = json!({
        "kubernetes_host": host, "token_reviewer_jwt": reviewer, "disable_local_ca_jwt": true, "kubernetes_ca_cert": authority,
    });
    bao.write(&format!("auth/{mount}/config"), config).await;
    let role = json!({
        "bound_service_account_names": ["aam"], "bound_service_account_namespaces": ["aam"], "token_policies": [policy],
        "token_ttl": "3s", "token_max_ttl": "3s",
    });
    bao.write(&format!("auth/{mount}/role/aam"), role).await;
    let workspace = Workspace::new();
    workspace.replace("token", first.as_bytes());
    let login = format!("{{method: kubernetes, mount: {mount}, role: aam, token_file: {}}}", workspace.path("token").display());
    workspace.write_policy(&section(&bao.url, &login, ""));
    let served = serve(workspace).await;
    let pushed = served.daemon.push(&intent_with_locator("openapi", &secret.service.url("a"), &secret.locator)).await.body;
    assert_eq!(pushed["status"], "ACTIVE", "{pushed}");
    // Kubernetes replaces the token in the file, and the old one does not work any more.
    *accepted.lock().unwrap() = second.clone();
    served.workspace.replace("token", second.as_bytes());
    active_for(&served, &pushed, Duration::from_secs(4)).await;
}

async fn a_periodic_token_is_renewed() {
    let bao = Bao::new("DEV");
    let secret = secret(&bao).await;
    let policy = bao.policy(&secret.rule).await;
    let token = bao.create_token(&policy, json!({"period": "4s"})).await;
    let served = serve(workspace(&bao.url, &token, "")).await;
    let pushed = served.daemon.push(&intent_with_locator("openapi", &secret.service.url("a"), &secret.locator)).await.body;
    assert_eq!(pushed["status"], "ACTIVE", "{pushed}");
    // No attempt runs in this time.
    let started = Instant::now();
    until("twice the period has passed", || async { (started.elapsed() > Duration::from_secs(9), String::new()) }).await;
    assert_eq!(heal(&served.daemon, &pushed).await["status"], "ACTIVE");
    let (status, _) = bao.call_as(&token, "GET", "auth/token/lookup-self", Value::Null).await;
    assert_eq!(status, 200, "the token is renewed");
    // It is not AAM's own token, so it stays.
    assert_eq!(served.daemon.stop().await, Some(0));
    let (status, _) = bao.call_as(&token, "GET", "auth/token/lookup-self", Value::Null).await;
    assert_eq!(status, 200);
}

async fn a_token_file_is_read_at_each_use() {
    let bao = Bao::new("DEV");
    let secret = secret(&bao).await;
    let policy = bao.policy(&secret.rule).await;
    let (first, second) = (bao.create_token(&policy, json!({})).await, bao.create_token(&policy, json!({})).await);
    let workspace = Workspace::new();
    let login = format!("{{method: token_file, file: {}}}", workspace.path("token").display());
    workspace.write_policy(&section(&bao.url, &login, ""));
    let text = failure(&attempt(&workspace, &secret.service.url("a"), &secret.locator));
    assert!(text.contains("which credentials.vault.login names: No such file"), "{text}");
    workspace.replace("token", format!("{first}\n").as_bytes());
    let served = serve(workspace).await;
    let pushed = served.daemon.push(&intent_with_locator("openapi", &secret.service.url("a"), &secret.locator)).await.body;
    assert_eq!(pushed["status"], "ACTIVE", "{pushed}");
    bao.write("auth/token/revoke", json!({"token": first})).await;
    served.workspace.replace("token", second.as_bytes());
    assert_eq!(heal(&served.daemon, &pushed).await["status"], "ACTIVE");
}

async fn the_token_of_a_login_is_revoked_at_an_orderly_stop() {
    let bao = Bao::new("DEV");
    let secret = secret(&bao).await;
    let workspace = app_role_workspace(&bao, &secret.rule, json!({"token_ttl": "1h"})).await;
    let file = workspace.path("intents/one.json");
    std::fs::write(&file, intent_with_locator("openapi", &secret.service.url("a"), &secret.locator).to_string()).unwrap();
    let output = workspace.run(&["once", "-v"]);
    assert_eq!(output.status.code(), Some(0), "{}", crate::support::daemon::stderr(&output));
    assert!(
        crate::support::daemon::stderr(&output).contains("revoked AAM's vault token and its leases"),
        "{}",
        crate::support::daemon::stderr(&output)
    );
}
