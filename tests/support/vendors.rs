//! Token endpoints of Zoom, Salesforce, Box and Okta, written from their documentation and as strict as it: they verify
//! signatures, audiences, ends, unique ids, passwords and nonces. Each also serves a small API that its token opens.
//!
//! Sources: developers.zoom.us "Server-to-Server OAuth"; help.salesforce.com "OAuth 2.0 JWT Bearer Flow" and "Client
//! Credentials Flow"; developer.box.com "JWT without SDKs", "Client Credentials Grant" and "Downscope token";
//! developer.okta.com "Implement OAuth for Okta with a service app" and "Configure OAuth 2.0 Demonstrating
//! Proof-of-Possession"; RFC 9449.

use crate::support::lowcode_families::{MockVendor, ReceivedRequest, json_response_with};
use crate::support::openapi::MockResponse;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest;
use ring::signature::{ECDSA_P256_SHA256_FIXED, KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

pub const CLIENT_ID: &str = "client-of-the-test";
pub const CLIENT_SECRET: &str = "secret-of-the-vendor-test+/=&";

/// The private key whose public half the vendors know, PEM.
pub fn vendor_key() -> String {
    decoded(include_str!("../data/keys/rsa.b64"))
}

/// The same key, encrypted with [`PASSPHRASE`].
pub fn encrypted_vendor_key() -> String {
    decoded(include_str!("../data/keys/rsa_pbkdf2.b64"))
}

pub const PASSPHRASE: &str = "topaz-31";

fn decoded(file: &str) -> String {
    let compact: String = file.split_whitespace().collect();
    String::from_utf8(STANDARD.decode(compact).expect("base64")).expect("PEM")
}

/// The form of a token request; empty if the request does not have one.
pub fn form(request: &ReceivedRequest) -> BTreeMap<String, String> {
    let is_form = request.header("content-type") == Some("application/x-www-form-urlencoded");
    let pairs = url::form_urlencoded::parse(request.body.as_bytes()).into_owned();
    if is_form && request.call.starts_with("POST ") { pairs.collect() } else { BTreeMap::new() }
}

fn error(status: u16, error: &str, description: &str) -> MockResponse {
    json_response_with(status, &[], &json!({"error": error, "error_description": description}))
}

pub fn now() -> i64 {
    aam::clock::from_env().now().0.div_euclid(1000)
}

/// The parts of a signed token: header, claims, what is signed, and the signature.
fn parts(token: &str) -> Option<(Value, Value, String, Vec<u8>)> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let json = |text: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok();
    Some((json(header)?, json(claims)?, signed.to_string(), URL_SAFE_NO_PAD.decode(signature).ok()?))
}

/// Header and claims of an assertion that [`vendor_key`] signed with RS256.
pub fn rs256(token: &str) -> Option<(Value, Value)> {
    let (header, claims, signed, signature) = parts(token)?;
    let lines: String = vendor_key().lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(lines).expect("base64");
    let public = RsaKeyPair::from_pkcs8(&der).expect("a key").public_key().as_ref().to_vec();
    let valid = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public).verify(signed.as_bytes(), &signature).is_ok();
    (header["alg"] == "RS256" && valid).then_some((header, claims))
}

/// Ids that were used; each is accepted once.
#[derive(Clone, Default)]
pub struct Once(Arc<Mutex<BTreeSet<String>>>);

impl Once {
    pub fn accept(&self, id: &Value) -> bool {
        id.as_str().is_some_and(|id| id.len() >= 16 && self.0.lock().expect("unpoisoned").insert(id.to_string()))
    }
}

/// The API behind a token: a description that everybody may read, and one list. Other calls are `None`.
pub fn api(home: &str, request: &ReceivedRequest, authorized: bool) -> Option<MockResponse> {
    match request.path() {
        "/openapi.json" => Some(json_response_with(
            200,
            &[],
            &json!({
                "openapi": "3.0.3", "info": {"title": "Vendor", "version": "1"}, "servers": [{"url": home}],
                "security": [{"it": []}],
                "components": {"securitySchemes": {"it": {"type": "oauth2", "flows": {}}}},
                "paths": {"/things": {"get": {"operationId": "listThings", "parameters": [{"name": "limit", "in": "query", "schema": {"type": "integer"}}],
                    "responses": {"200": {"description": "all", "content": {"application/json": {"schema":
                        {"type": "array", "items": {"type": "object", "properties": {"id": {"type": "integer"}}}}}}}}}}}
            }),
        )),
        "/things" if authorized => Some(json_response_with(200, &[], &json!([{"id": 1}, {"id": 2}]))),
        "/things" => Some(json_response_with(401, &[], &json!({"message": "the token is not valid"}))),
        _ => None,
    }
}

pub const ZOOM_ACCOUNT: &str = "AbCdEfGhIjKl-123";
pub const ZOOM_TOKEN: &str = "zoom-access-token-of-the-test-1";

pub async fn zoom() -> MockVendor {
    MockVendor::start(|home, request| {
        if let Some(answer) = api(home, request, request.token == ZOOM_TOKEN) {
            return answer;
        }
        let form = form(request);
        let refused = |error: &str, reason: &str| json_response_with(400, &[], &json!({"reason": reason, "error": error}));
        let basic = request.header("authorization").and_then(|value| value.strip_prefix("Basic "));
        let pair = basic.and_then(|basic| String::from_utf8(STANDARD.decode(basic).ok()?).ok());
        let encoded: String = url::form_urlencoded::byte_serialize(CLIENT_SECRET.as_bytes()).collect();
        match (form.get("grant_type").map(String::as_str), form.get("account_id").map(String::as_str)) {
            _ if request.call != "POST /oauth/token" => json_response_with(404, &[], &json!({})),
            _ if pair != Some(format!("{CLIENT_ID}:{encoded}")) => {
                refused("invalid_client", "Invalid client_id or client_secret")
            }
            (Some("account_credentials"), Some("disabled")) => refused("invalid_request", "The app has been disabled"),
            (Some("account_credentials"), Some(ZOOM_ACCOUNT)) => json_response_with(
                200,
                &[],
                &json!({
                "access_token": ZOOM_TOKEN, "token_type": "bearer", "expires_in": 3599, "scope": "user:read:list_users:admin"}),
            ),
            (Some("account_credentials"), _) => refused("invalid_request", "Bad Request"),
            _ => refused("unsupported_grant_type", "unsupported grant type"),
        }
    })
    .await
}

pub const SALESFORCE_USER: &str = "reader@acme.example";
pub const SALESFORCE_TOKEN: &str = "00Dxx0000001gPL!AR8AQJXg5oj8jXSgxJfA0lBog";

/// An organization of Salesforce. `instance` is the `instance_url` of its responses; empty for its own address.
pub async fn salesforce(instance: &'static str) -> MockVendor {
    MockVendor::start(move |home, request| {
        if let Some(answer) = api(home, request, request.token == SALESFORCE_TOKEN) {
            return answer;
        }
        let form = form(request);
        let get = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        if request.call != "POST /services/oauth2/token" {
            return json_response_with(404, &[], &json!({}));
        }
        let issued = || {
            let instance = if instance.is_empty() { home } else { instance };
            json_response_with(
                200,
                &[],
                &json!({"access_token": SALESFORCE_TOKEN, "scope": "api", "instance_url": instance,
                "id": "https://login.salesforce.com/id/00Dxx/005xx", "token_type": "Bearer", "issued_at": "1700000000000"}),
            )
        };
        match get("grant_type") {
            "client_credentials" => match (get("client_id"), get("client_secret")) {
                ("no-run-as", _) => error(400, "invalid_grant", "no client credentials user enabled"),
                ("foreign-host", _) => error(400, "invalid_grant", "request not supported on this domain"),
                (CLIENT_ID, CLIENT_SECRET) => issued(),
                (CLIENT_ID, _) => error(400, "invalid_client", "invalid client credentials"),
                _ => error(400, "invalid_client_id", "client identifier invalid"),
            },
            "urn:ietf:params:oauth:grant-type:jwt-bearer" => match rs256(get("assertion")) {
                None => error(400, "invalid_grant", "invalid assertion"),
                Some((_, claims)) if claims["iss"] != CLIENT_ID => error(400, "invalid_client_id", "client identifier invalid"),
                Some((_, claims)) if claims["aud"] != "https://login.salesforce.com" => {
                    error(400, "invalid_grant", "audience is invalid")
                }
                // Assertions may end at most three minutes from now.
                Some((_, claims)) if !(1..=180).contains(&(claims["exp"].as_i64().unwrap_or(0) - now())) => {
                    error(400, "invalid_grant", "expired authorization code")
                }
                Some((_, claims)) if claims["sub"] == "inactive@acme.example" => error(400, "invalid_grant", "inactive user"),
                Some((_, claims)) if claims["sub"] != SALESFORCE_USER => {
                    error(400, "invalid_grant", "user hasn't approved this consumer")
                }
                Some(_) => issued(),
            },
            _ => error(400, "unsupported_grant_type", "grant type not supported"),
        }
    })
    .await
}

pub const BOX_ENTERPRISE: &str = "1234567";
pub const BOX_TOKEN: &str = "box-access-token-of-the-test-1";
/// What [`BOX_TOKEN`] is exchanged for.
pub const BOX_NARROW_TOKEN: &str = "box-narrow-token-of-the-test-1";

pub async fn box_platform() -> MockVendor {
    let once = Once::default();
    MockVendor::start(move |home, request| {
        if let Some(answer) = api(home, request, request.token == BOX_TOKEN) {
            return answer;
        }
        let form = form(request);
        let get = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        if request.call != "POST /oauth2/token" {
            return json_response_with(404, &[], &json!({}));
        }
        let issued = || {
            json_response_with(
                200,
                &[],
                &json!({"access_token": BOX_TOKEN, "expires_in": 4169, "restricted_to": [], "token_type": "bearer"}),
            )
        };
        if get("grant_type") == "urn:ietf:params:oauth:grant-type:token-exchange" {
            let subject = (get("subject_token"), get("subject_token_type"));
            let known = subject == (BOX_TOKEN, "urn:ietf:params:oauth:token-type:access_token");
            return match (known, get("scope")) {
                (false, _) => error(400, "invalid_grant", "Invalid subject token"),
                (true, "root_readonly") => json_response_with(
                    200,
                    &[],
                    &json!({"access_token": BOX_NARROW_TOKEN, "expires_in": 4000, "scope": "root_readonly", "token_type": "bearer"}),
                ),
                (true, _) => error(400, "invalid_scope", "The scope is not one of the app"),
            };
        }
        if (get("client_id"), get("client_secret")) != (CLIENT_ID, CLIENT_SECRET) {
            return error(400, "invalid_client", "The client credentials are invalid");
        }
        match get("grant_type") {
            "client_credentials" => match (get("box_subject_type"), get("box_subject_id")) {
                ("enterprise", BOX_ENTERPRISE) | ("user", "42") => issued(),
                ("enterprise", "unapproved") => {
                    error(400, "unauthorized_client", "This app is not authorized by the enterprise admin")
                }
                ("user", _) => {
                    error(400, "invalid_request", "Cannot obtain user token based on the enterprise configuration for your app")
                }
                _ => error(400, "invalid_grant", "Grant credentials are invalid"),
            },
            "urn:ietf:params:oauth:grant-type:jwt-bearer" => {
                let Some((header, claims)) = rs256(get("assertion")) else {
                    return error(400, "invalid_grant", "Please check the signature of the assertion");
                };
                let left = claims["exp"].as_i64().unwrap_or(0) - now();
                let subject = (claims["box_sub_type"].as_str().unwrap_or_default(), claims["sub"].as_str().unwrap_or_default());
                match () {
                    () if header["kid"] != "pk1" => error(400, "invalid_grant", "Please check the 'kid' header"),
                    () if claims["iss"] != CLIENT_ID => error(400, "invalid_grant", "Please check the 'iss' claim"),
                    () if claims["aud"] != "https://api.box.com/oauth2/token" => {
                        error(400, "invalid_grant", "Please check the 'aud' claim")
                    }
                    () if !(1..=60).contains(&left) => error(400, "invalid_grant", "Please check the 'exp' claim"),
                    () if !once.accept(&claims["jti"]) => error(400, "invalid_grant", "Please check the 'jti' claim"),
                    () if !matches!(subject, ("enterprise", BOX_ENTERPRISE) | ("user", "42")) => {
                        error(400, "invalid_grant", "Please check the 'sub' claim. The 'sub' specified is invalid.")
                    }
                    () => issued(),
                }
            }
            _ => error(400, "unsupported_grant_type", "Unsupported grant type"),
        }
    })
    .await
}

/// The settings file of an app of Box, with this private key and passphrase.
pub fn box_settings(key: &str, passphrase: &str) -> String {
    json!({"boxAppSettings": {"clientID": CLIENT_ID, "clientSecret": CLIENT_SECRET, "appAuth":
        {"publicKeyID": "pk1", "privateKey": key, "passphrase": passphrase}}, "enterpriseID": BOX_ENTERPRISE})
    .to_string()
}

/// How an organization of Okta treats DPoP.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OktaDpop {
    /// Tokens are not bound.
    Off,
    /// The app requires DPoP, and the token endpoint asks for a nonce.
    Required,
    /// As `Required`, and the API asks for a nonce of its own too.
    RequiredWithApiNonce,
}

pub const OKTA_TOKEN: &str = "okta-access-token-of-the-test-1";
const OKTA_NONCES: [&str; 2] = ["nonce-of-the-token-endpoint", "nonce-of-the-api"];

/// Checks a proof like RFC 9449, section 4.3; returns the thumbprint of its key.
fn proof(
    request: &ReceivedRequest,
    home: &str,
    once: &Once,
    nonce: Option<&str>,
    token: Option<&str>,
) -> Result<String, &'static str> {
    let proofs: Vec<&(String, String)> = request.headers.iter().filter(|(name, _)| name == "dpop").collect();
    let [(_, proof)] = proofs.as_slice() else { return Err("The DPoP proof JWT header is missing.") };
    let (header, claims, signed, signature) = parts(proof).ok_or("The DPoP proof is not a JWT")?;
    let jwk = &header["jwk"];
    if header["typ"] != "dpop+jwt" || header["alg"] != "ES256" || jwk["crv"] != "P-256" || !jwk["d"].is_null() {
        return Err("The DPoP proof has an invalid header");
    }
    let coordinate = |name: &str| jwk[name].as_str().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).unwrap_or_default();
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    if UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed.as_bytes(), &signature).is_err() {
        return Err("The DPoP proof signature is invalid");
    }
    let method = request.call.split(' ').next().unwrap_or_default();
    let ath = token.map(|token| URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, token.as_bytes())));
    match () {
        () if claims["htm"] != method || claims["htu"] != format!("{home}{}", request.path()) => {
            Err("The DPoP proof is for another request")
        }
        () if (claims["iat"].as_i64().unwrap_or(0) - now()).abs() > 60 => Err("The DPoP proof is too old"),
        () if claims["ath"].as_str() != ath.as_deref() => Err("The DPoP proof is for another token"),
        () if nonce.is_some() && claims["nonce"].as_str() != nonce => Err("use_dpop_nonce"),
        () if !once.accept(&claims["jti"]) => Err("The DPoP proof was used before"),
        () => {
            let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, jwk["x"], jwk["y"]);
            Ok(URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, canonical.as_bytes())))
        }
    }
}

pub async fn okta(dpop: OktaDpop) -> MockVendor {
    let (once, bound): (Once, Arc<Mutex<Option<String>>>) = Default::default();
    MockVendor::start(move |home, request| {
        let [token_nonce, api_nonce] = OKTA_NONCES;
        if request.path() == "/things" && dpop != OktaDpop::Off {
            let wanted = (dpop == OktaDpop::RequiredWithApiNonce).then_some(api_nonce);
            let token = request.header("authorization").and_then(|value| value.strip_prefix("DPoP "));
            let refused = |error: &str| {
                let challenge = format!("DPoP algs=\"ES256 RS256\", error=\"{error}\"");
                json_response_with(401, &[("www-authenticate", challenge.as_str()), ("dpop-nonce", api_nonce)], &json!({}))
            };
            return match proof(request, home, &once, wanted, token) {
                Ok(key) if token == Some(OKTA_TOKEN) && bound.lock().expect("unpoisoned").as_deref() == Some(key.as_str()) => {
                    api(home, request, true).expect("an answer")
                }
                Ok(_) => refused("invalid_token"),
                Err("use_dpop_nonce") => refused("use_dpop_nonce"),
                Err(_) => refused("invalid_dpop_proof"),
            };
        }
        if let Some(answer) = api(home, request, request.token == OKTA_TOKEN) {
            return answer;
        }
        if request.call != "POST /oauth2/v1/token" {
            return json_response_with(404, &[], &json!({}));
        }
        let form = form(request);
        let get = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let Some((header, claims)) = rs256(get("client_assertion")) else {
            return error(401, "invalid_client", "The client_assertion signature is invalid.");
        };
        let left = claims["exp"].as_i64().unwrap_or(0) - now();
        let scopes = ["okta.users.read", "okta.groups.read", "okta.apps.read"];
        let key = match dpop {
            OktaDpop::Off => Ok(String::new()),
            _ => proof(request, home, &once, Some(token_nonce), None),
        };
        match key {
            _ if get("grant_type") != "client_credentials" => {
                error(400, "unsupported_grant_type", "The authorization grant type is not supported")
            }
            _ if get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" => {
                error(400, "invalid_request", "The client_assertion_type is invalid")
            }
            _ if header["kid"].as_str().is_some_and(|kid| kid != "kid-1") => {
                error(401, "invalid_client", "The client_assertion JWT kid is invalid.")
            }
            _ if claims["aud"] != format!("{home}/oauth2/v1/token") => error(
                401,
                "invalid_client",
                "The audience claim for client_assertion must be the endpoint invoked for the request.",
            ),
            _ if claims["iss"] != CLIENT_ID || claims["sub"] != CLIENT_ID => {
                error(401, "invalid_client", "Invalid value for 'client_id' parameter.")
            }
            _ if !(1..=3600).contains(&left) => error(401, "invalid_client", "The client_assertion token is expired."),
            _ if !once.accept(&claims["jti"]) => error(401, "invalid_client", "The client_assertion was used before."),
            _ if get("scope").split(' ').any(|scope| !scopes.contains(&scope)) => {
                error(400, "invalid_scope", "One or more scopes are not configured for the authorization server resource.")
            }
            Err("use_dpop_nonce") => json_response_with(
                400,
                &[("dpop-nonce", token_nonce)],
                &json!({"error": "use_dpop_nonce", "error_description": "Authorization server requires nonce in DPoP proof."}),
            ),
            Err(reason) => error(400, "invalid_dpop_proof", reason),
            Ok(key) => {
                *bound.lock().expect("unpoisoned") = Some(key);
                let token_type = if dpop == OktaDpop::Off { "Bearer" } else { "DPoP" };
                json_response_with(
                    200,
                    &[],
                    &json!({"access_token": OKTA_TOKEN, "token_type": token_type, "expires_in": 3600, "scope": get("scope")}),
                )
            }
        }
    })
    .await
}
