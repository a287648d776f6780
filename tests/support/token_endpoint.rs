//! Token endpoints and a service that accepts only the tokens that they issued, and the verification of signed assertions,
//! which uses ring directly and no code of AAM.

use crate::support::daemon::{Workspace, intent_with_locator, stderr, stdout};
use crate::support::lowcode_families::{MockVendor, ReceivedRequest, json_response_with};
use crate::support::openapi::{MockResponse, json_response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{self, EcdsaKeyPair, KeyPair as _, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// The passphrase of the encrypted keys in tests/data/keys.
pub const PASSPHRASE: &str = "topaz-31";

/// A PEM file of tests/data/keys.
pub fn pem(name: &str) -> String {
    let path = format!("{}/tests/data/keys/{name}.b64", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let compact: String = text.split_whitespace().collect();
    String::from_utf8(STANDARD.decode(compact).expect("base64")).expect("PEM")
}

/// The DER of the first section of a PEM text.
pub fn der(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(body).expect("base64")
}

/// Verifies a JWT with the public half of the key `name`, and returns header and claims.
pub fn verified(jwt: &str, name: &str) -> Result<(Value, Value), &'static str> {
    let parts: Vec<&str> = jwt.split('.').collect();
    let [header, claims, signature] = parts.as_slice() else { return Err("not a JWT") };
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| "not Base64url");
    let parse = |part: &str| serde_json::from_slice::<Value>(&decode(part)?).map_err(|_| "not JSON");
    let (head, body) = (parse(header)?, parse(claims)?);
    let key = der(&pem(name));
    let (algorithm, public): (&'static dyn VerificationAlgorithm, Vec<u8>) = match head["alg"].as_str() {
        Some("RS256") => (&signature::RSA_PKCS1_2048_8192_SHA256, rsa_public(&key)?),
        Some("PS256") => (&signature::RSA_PSS_2048_8192_SHA256, rsa_public(&key)?),
        Some("ES256") => {
            let pair =
                EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &key, &ring::rand::SystemRandom::new());
            (&signature::ECDSA_P256_SHA256_FIXED, pair.map_err(|_| "another kind of key")?.public_key().as_ref().to_vec())
        }
        _ => return Err("another algorithm"),
    };
    let signed = jwt.rsplit_once('.').map_or("", |(signed, _)| signed);
    match UnparsedPublicKey::new(algorithm, public).verify(signed.as_bytes(), &decode(signature)?) {
        Ok(()) => Ok((head, body)),
        Err(_) => Err("another signature"),
    }
}

fn rsa_public(pkcs8: &[u8]) -> Result<Vec<u8>, &'static str> {
    RsaKeyPair::from_pkcs8(pkcs8).map(|pair| pair.public_key().as_ref().to_vec()).map_err(|_| "another kind of key")
}

/// The time of the machine in seconds, without the offset of a test.
pub fn now() -> i64 {
    i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs()).expect("a time")
}

/// A request to a token endpoint.
pub struct TokenCall<'a> {
    /// The address of the service, without a path.
    pub home: &'a str,
    pub request: &'a ReceivedRequest,
    /// The form. A repeated parameter is refused before.
    pub form: BTreeMap<String, String>,
}

impl TokenCall<'_> {
    pub fn get(&self, name: &str) -> &str {
        self.form.get(name).map(String::as_str).unwrap_or_default()
    }

    /// Client id and secret of the header, decoded as RFC 6749 section 2.3.1 says.
    pub fn basic(&self) -> Option<(String, String)> {
        let pair = self.request.header("authorization")?.strip_prefix("Basic ")?;
        let text = String::from_utf8(STANDARD.decode(pair).ok()?).ok()?;
        let (id, secret) = text.split_once(':')?;
        let decode = |part: &str| {
            let pair = format!("x={part}");
            url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned())
        };
        Some((decode(id)?, decode(secret)?))
    }
}

/// A service with a token endpoint. `/api/things` answers only to the tokens that it issued, in the header `Authorization`.
#[derive(Clone)]
pub struct TokenService {
    pub vendor: MockVendor,
    issued: Arc<Mutex<Vec<String>>>,
    /// The number of tokens, from the first one that was issued, that lack a permission.
    without_permission: Arc<AtomicUsize>,
}

impl TokenService {
    /// Starts a service whose token requests are answered by `endpoint`: every path that does not begin with /api/.
    pub async fn start(endpoint: impl Fn(&TokenCall<'_>) -> MockResponse + Clone + Send + Sync + 'static) -> TokenService {
        let issued: Arc<Mutex<Vec<String>>> = Arc::default();
        let (tokens, without_permission) = (Arc::clone(&issued), Arc::<AtomicUsize>::default());
        let denied = Arc::clone(&without_permission);
        let lacks_permission = move |tokens: &[String], token: &str| {
            tokens.iter().position(|issued| issued == token).is_some_and(|at| at < denied.load(Ordering::SeqCst))
        };
        let vendor = MockVendor::start(move |home, request| match request.path() {
            "/api/openapi.json" => json_response(description().to_string()),
            "/api/things" if lacks_permission(&tokens.lock().expect("unpoisoned"), &request.token) => {
                json_response_with(403, &[], &json!({"message": "forbidden"}))
            }
            "/api/things" if tokens.lock().expect("unpoisoned").contains(&request.token) => {
                json_response(r#"[{"id":1},{"id":2}]"#)
            }
            "/api/v1/things" if tokens.lock().expect("unpoisoned").contains(&request.token) => {
                json_response(r#"{"data":[{"id":1},{"id":2}]}"#)
            }
            path if path.starts_with("/api/") => json_response_with(401, &[], &json!({"message": "not authenticated"})),
            _ => {
                let response = answer(home, request, &endpoint);
                let body: Value = serde_json::from_str(&response.2).unwrap_or_default();
                let token = body["access_token"].as_str().or(body["accessToken"].as_str());
                tokens.lock().expect("unpoisoned").extend(token.filter(|_| response.0 == 200).map(str::to_string));
                response
            }
        })
        .await;
        TokenService { vendor, issued, without_permission }
    }

    /// The resource id of the protected service for the family openapi.
    pub fn resource(&self) -> String {
        format!("{}/api/openapi.json", self.vendor.base)
    }

    /// The requests to token endpoints.
    pub fn token_calls(&self) -> Vec<ReceivedRequest> {
        self.vendor.requests().into_iter().filter(|request| !request.path().starts_with("/api/")).collect()
    }

    /// All tokens that were issued.
    pub fn issued(&self) -> Vec<String> {
        self.issued.lock().expect("unpoisoned").clone()
    }

    /// Takes a permission from the first `count` tokens, as a vendor whose tokens keep the permissions of their issue.
    pub fn deny_first(&self, count: usize) {
        self.without_permission.store(count, Ordering::SeqCst);
    }

    /// Ends all tokens, as a vendor that revokes them.
    pub fn revoke_all(&self) {
        self.issued.lock().expect("unpoisoned").clear();
    }
}

fn answer(home: &str, request: &ReceivedRequest, endpoint: &impl Fn(&TokenCall<'_>) -> MockResponse) -> MockResponse {
    let mut form = BTreeMap::new();
    let is_form = request.header("content-type") == Some("application/x-www-form-urlencoded");
    if is_form {
        for (name, value) in url::form_urlencoded::parse(request.body.as_bytes()) {
            if form.insert(name.into_owned(), value.into_owned()).is_some() {
                return oauth_error(400, "invalid_request", "a parameter is repeated");
            }
        }
    }
    endpoint(&TokenCall { home, request, form })
}

/// A new token, different for each call.
pub fn fresh_token() -> String {
    format!("token-{}", &aam::model::Digest::from_bytes(format!("{:?}", std::time::Instant::now()).as_bytes()).to_string()[..32])
}

/// A successful answer with a new token for an hour.
pub fn token_answer() -> MockResponse {
    json_response_with(200, &[], &json!({"access_token": fresh_token(), "token_type": "Bearer", "expires_in": 3600}))
}

/// An error in the form of RFC 6749, section 5.2.
pub fn oauth_error(status: u16, error: &str, description: &str) -> MockResponse {
    json_response_with(status, &[], &json!({"error": error, "error_description": description}))
}

fn description() -> Value {
    json!({
        "openapi": "3.0.3", "info": {"title": "Things", "version": "1"}, "security": [{"token": []}],
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "paths": {"/api/things": {"get": {"operationId": "listThings", "responses": {"200": {"description": "all",
            "content": {"application/json": {"schema": {"type": "array", "items": {"type": "object",
                "properties": {"id": {"type": "integer"}}}}}}}}}}}
    })
}

/// Runs `aam test` on one intent; returns what it prints about it.
pub fn attempt(workspace: &Workspace, source_type: &str, resource: &str, locator: &str) -> Value {
    let intent = intent_with_locator(source_type, resource, locator);
    std::fs::write(workspace.path("data/attempt.json"), intent.to_string()).expect("write");
    let file = workspace.path("data/attempt.json").display().to_string();
    let output = workspace.run(&["test", &file, "--format", "json"]);
    let value: Value = serde_json::from_str(&stdout(&output)).unwrap_or_default();
    assert!(value[0]["status"].is_string(), "{} {}", stdout(&output), stderr(&output));
    value[0].clone()
}

/// The failure of an attempt as class, title, fix and detail.
pub fn failure(attempt: &Value) -> (String, String, String, String) {
    let steps = attempt["steps"].as_array().cloned().unwrap_or_default();
    let failed = steps.into_iter().find(|step| step["status"] == "failed").unwrap_or_else(|| panic!("no step failed: {attempt}"));
    let text = |name: &str| failed["failure"][name].as_str().unwrap_or_default().to_string();
    (text("class"), text("title"), text("fix"), text("detail"))
}

/// The evidence of the step `credential`.
pub fn credential_evidence(attempt: &Value) -> Value {
    let steps = attempt["steps"].as_array().cloned().unwrap_or_default();
    steps.into_iter().find(|step| step["step"] == "credential").map(|step| step["evidence"].clone()).unwrap_or_default()
}

/// Asserts that the attempt ended ACTIVE.
pub fn assert_active(attempt: &Value) {
    assert_eq!(attempt["status"], "ACTIVE", "{attempt:#}");
}
