//! An issuer of OpenID Connect that is as strict as the standard: it accepts an authorization request and a token request only
//! if nothing is missing, and a code once.

use super::*;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use std::collections::HashMap;
use std::sync::Mutex;

pub const CLIENT: &str = "aam-page";
pub const REDIRECT: &str = "http://127.0.0.1/ui/oidc/callback";

/// The issuer, which runs until the end of the test.
pub struct Issuer {
    pub url: String,
    pub known: Arc<Known>,
}

/// What the issuer knows, and what a test changes.
pub struct Known {
    url: String,
    /// The secret of the client; `None` for a public client.
    secret: Option<String>,
    key: Mutex<Key>,
    codes: Mutex<HashMap<String, Authorized>>,
    /// Claims of the person that replace the usual ones.
    pub claims: Mutex<Value>,
    /// The header of the ID token, if it is not the usual one.
    pub header: Mutex<Option<Value>>,
    /// The requests that were received, for example `POST /token`.
    pub calls: Mutex<Vec<String>>,
}

struct Key {
    id: String,
    pair: EcdsaKeyPair,
}

/// What a code was issued for.
struct Authorized {
    nonce: String,
    challenge: String,
    redirect: String,
}

fn key(id: &str) -> Key {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).expect("a key");
    Key { id: id.to_string(), pair }
}

impl Issuer {
    pub async fn start(secret: Option<&str>) -> Issuer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://127.0.0.1:{}", listener.local_addr().expect("bound").port());
        let known = Arc::new(Known {
            url: url.clone(),
            secret: secret.map(str::to_string),
            key: Mutex::new(key("first")),
            codes: Mutex::default(),
            claims: Mutex::new(json!({})),
            header: Mutex::default(),
            calls: Mutex::default(),
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/jwks", get(jwks))
            .route("/token", post(token))
            .with_state(Arc::clone(&known));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Issuer { url, known }
    }

    /// Signs with a new key from now on.
    pub fn rotate(&self, id: &str) {
        *self.known.key.lock().expect("no panic") = key(id);
    }

    /// Signs with a key that the document does not have under this name.
    pub fn sign_with_another_key(&self) {
        let mut own = self.known.key.lock().expect("no panic");
        let id = own.id.clone();
        *own = key(&id);
    }

    /// Sets claims of the person.
    pub fn claim(&self, claims: Value) {
        *self.known.claims.lock().expect("no panic") = claims;
    }

    pub fn calls(&self) -> Vec<String> {
        self.known.calls.lock().expect("no panic").clone()
    }

    /// What the person does at the issuer: they agree. Returns the query of the callback.
    pub fn authorize(&self, location: &str) -> String {
        let url = url::Url::parse(location).expect("an address");
        assert_eq!(format!("{}{}", url.origin().ascii_serialization(), url.path()), format!("{}/authorize", self.url));
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let one = |name: &str| {
            let values: Vec<&String> = pairs.iter().filter(|(known, _)| known == name).map(|(_, value)| value).collect();
            assert_eq!(values.len(), 1, "{name} in {location}");
            values[0].clone()
        };
        assert_eq!((one("response_type"), one("client_id")), ("code".to_string(), CLIENT.to_string()));
        assert_eq!((one("redirect_uri"), one("code_challenge_method")), (REDIRECT.to_string(), "S256".to_string()));
        assert!(one("scope").split(' ').any(|scope| scope == "openid"), "{location}");
        assert!(one("state").len() >= 32 && one("nonce").len() >= 32 && one("code_challenge").len() == 43, "{location}");
        let mut codes = self.known.codes.lock().expect("no panic");
        let code = format!("code-{}-of-the-fake-issuer", codes.len());
        let authorized = Authorized { nonce: one("nonce"), challenge: one("code_challenge"), redirect: one("redirect_uri") };
        codes.insert(code.clone(), authorized);
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("code", &code).append_pair("state", &one("state")).append_pair("iss", &self.url);
        query.finish()
    }
}

fn answer(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn called(known: &Known, call: &str) {
    known.calls.lock().expect("no panic").push(call.to_string());
}

async fn discovery(State(known): State<Arc<Known>>) -> Response {
    called(&known, "GET /.well-known/openid-configuration");
    let url = &known.url;
    answer(
        StatusCode::OK,
        &json!({
            "issuer": url, "authorization_endpoint": format!("{url}/authorize"), "token_endpoint": format!("{url}/token"),
            "jwks_uri": format!("{url}/jwks"), "authorization_response_iss_parameter_supported": true,
        }),
    )
}

async fn jwks(State(known): State<Arc<Known>>) -> Response {
    called(&known, "GET /jwks");
    let key = known.key.lock().expect("no panic");
    let point = key.pair.public_key().as_ref();
    let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let jwk = json!({
        "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": key.id,
        "x": part(&point[1..33]), "y": part(&point[33..]),
    });
    answer(StatusCode::OK, &json!({ "keys": [jwk] }))
}

async fn token(State(known): State<Arc<Known>>, headers: HeaderMap, body: String) -> Response {
    called(&known, "POST /token");
    let fields: HashMap<String, String> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    let refused = |error: &str| answer(StatusCode::BAD_REQUEST, &json!({ "error": error }));
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let expected = known.secret.as_ref().map(|secret| {
        let encoded: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        format!("Basic {}", BASE64_STANDARD.encode(format!("{CLIENT}:{encoded}")))
    });
    let proves_itself = match &expected {
        Some(expected) => authorization == Some(expected.as_str()) && field("client_secret").is_empty(),
        None => authorization.is_none() && field("client_id") == CLIENT,
    };
    if !proves_itself {
        return answer(StatusCode::UNAUTHORIZED, &json!({"error": "invalid_client"}));
    }
    if field("grant_type") != "authorization_code" {
        return refused("unsupported_grant_type");
    }
    let Some(code) = known.codes.lock().expect("no panic").remove(field("code")) else { return refused("invalid_grant") };
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, field("code_verifier").as_bytes()));
    if challenge != code.challenge || field("redirect_uri") != code.redirect {
        return refused("invalid_grant");
    }
    let token = id_token(&known, &code.nonce);
    answer(
        StatusCode::OK,
        &json!({"access_token": "access-token-of-the-fake-issuer", "token_type": "Bearer", "expires_in": 60, "id_token": token}),
    )
}

fn id_token(known: &Known, nonce: &str) -> String {
    let now = START / 1000;
    let mut claims = json!({
        "iss": known.url, "aud": CLIENT, "sub": "248289761001", "nonce": nonce, "iat": now, "exp": now + 600,
        "email": "jane@acme.example", "email_verified": true, "groups": ["staff", "aam-readers"],
    });
    for (name, value) in known.claims.lock().expect("no panic").as_object().expect("claims") {
        claims[name.as_str()] = value.clone();
    }
    let key = known.key.lock().expect("no panic");
    let usual = json!({"alg": "ES256", "kid": key.id});
    let head = known.header.lock().expect("no panic").clone().unwrap_or(usual);
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let input = format!("{}.{}", part(&head), part(&claims));
    let signature = key.pair.sign(&SystemRandom::new(), input.as_bytes()).expect("signed");
    format!("{input}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref()))
}
