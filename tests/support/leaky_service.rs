//! Services that send a secret back in every encoding, and a search that finds it in any of them.

use axum::body::Body;
use axum::http::{Request, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A planted secret, called a canary because it shows a leak wherever it appears. It is an alphanumeric core among
/// characters that every encoder escapes.
#[derive(Clone, Debug)]
pub struct Canary {
    /// The secret value of the credential.
    pub value: String,
    /// The alphanumeric part, which is found even if only a part of the value leaks.
    core: String,
}

impl Canary {
    /// A new canary whose value appears in no file of the repository.
    pub fn new(name: &str) -> Canary {
        let core = fresh(name);
        Canary { value: format!("q/+&=\"\\%<{core}>?#'~"), core }
    }

    /// A canary that consists of letters and digits only.
    pub fn alphanumeric(name: &str) -> Canary {
        let core = fresh(name);
        Canary { value: core.clone(), core }
    }

    /// Every encoding in which the service sends the value back.
    pub fn forms(&self) -> Vec<String> {
        let value = self.value.as_str();
        let json = |text: &str| serde_json::to_string(text).unwrap_or_default().trim_matches('"').to_string();
        let mut forms =
            vec![value.to_string(), json(value), json(&json(value)), format!("{value:?}"), hex(value), hex(value).to_uppercase()];
        for text in
            [value.to_string(), format!("svc:{value}"), format!("reader:{value}"), format!(":{value}"), format!("{value}:")]
        {
            forms.extend([
                STANDARD.encode(&text),
                STANDARD_NO_PAD.encode(&text),
                URL_SAFE.encode(&text),
                URL_SAFE_NO_PAD.encode(&text),
            ]);
        }
        let percent: String = value
            .bytes()
            .map(|byte| if byte.is_ascii_alphanumeric() { (byte as char).to_string() } else { format!("%{byte:02X}") })
            .collect();
        forms.push(percent.to_lowercase().replace(&self.core.to_lowercase(), &self.core));
        forms.push(percent);
        forms
    }

    /// The texts that the search looks for: every encoding, and the core in every alignment of base64.
    fn needles(&self) -> Vec<String> {
        let mut needles = self.forms();
        needles.extend([self.core.clone(), hex(&self.core), hex(&self.core).to_uppercase()]);
        for before in 0..3 {
            for engine in [&STANDARD, &URL_SAFE] {
                let text = engine.encode(format!("{}{}", "x".repeat(before), self.core));
                // The first and the last group of four characters also contain bits of the neighbouring bytes.
                needles.push(text[4..text.len() - 4].to_string());
            }
        }
        needles
    }

    /// The first encoding of the secret that is in `bytes`.
    pub fn found_in(&self, bytes: &[u8]) -> Option<String> {
        let text = String::from_utf8_lossy(bytes);
        self.needles().into_iter().find(|needle| text.contains(needle.as_str()))
    }

    /// The text that the service puts into its responses: the secret in every encoding.
    pub fn leak(&self) -> String {
        format!("you sent: {}", self.forms().join(" "))
    }
}

/// A unique alphanumeric text that starts with `name`.
fn fresh(name: &str) -> String {
    let seed = format!("{name} {:?} {}", std::time::Instant::now(), std::process::id());
    let digest = aam::model::Digest::from_bytes(seed.as_bytes()).to_string();
    format!("{name}{}", &digest[..24])
}

fn hex(text: &str) -> String {
    data_encoding::HEXLOWER.encode(text.as_bytes())
}

/// How the service behaves at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeakMode {
    /// Answers requests that carry the canary with 200, all others with 401.
    Authorizing,
    /// Answers every request except the one for the description with this status.
    Status(u16),
}

/// An HTTP service that leaks `canary` in bodies and headers.
#[derive(Clone)]
pub struct LeakyService {
    pub base: String,
    mode: Arc<Mutex<LeakMode>>,
    /// `METHOD URL` of every call.
    calls: Arc<Mutex<Vec<String>>>,
}

impl LeakyService {
    pub fn set(&self, mode: LeakMode) {
        *self.mode.lock().expect("unpoisoned") = mode;
    }

    /// `METHOD URL` of every call so far.
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().expect("unpoisoned").clone()
    }

    /// An OpenAPI service with one security scheme, given as JSON.
    pub async fn openapi(
        canary: &Canary,
        scheme: &str,
        authorization: &'static [&'static str],
        expected: String,
    ) -> LeakyService {
        let description = format!(
            r##"{{"openapi":"3.0.3","info":{{"title":"Echo","version":"1"}},"security":[{{"it":[]}}],
            "paths":{{"/items":{{"get":{{"operationId":"listItems","responses":{{"200":{{"description":"ok","content":{{"application/json":{{"schema":
            {{"type":"array","items":{{"type":"object","properties":{{"id":{{"type":"integer"}},"said":{{"type":"string"}}}}}}}}}}}}}}}}}}}}}},
            "components":{{"securitySchemes":{{"it":{scheme}}}}}}}"##
        );
        let leak = canary.leak();
        LeakyService::http(canary, move |request, mode| {
            let sent = authorization
                .iter()
                .any(|name| request.headers().get(*name).is_some_and(|value| value.as_bytes() == expected.as_bytes()));
            match (request.uri().path(), mode) {
                _ if !matches!(request.method().as_str(), "GET" | "HEAD") => (405, "{}".to_string()),
                ("/openapi.json", _) => (200, description.clone()),
                (_, LeakMode::Status(status)) => (status, serde_json::json!({ "error": leak, "message": leak }).to_string()),
                (_, LeakMode::Authorizing) if sent => {
                    let key = leak.clone();
                    (200, serde_json::json!([{ "id": 1, "said": leak, key: "as a key" }]).to_string())
                }
                (_, LeakMode::Authorizing) => {
                    (401, serde_json::json!({ "message": leak, "sent": format!("{:?}", request.headers()) }).to_string())
                }
            }
        })
        .await
    }

    /// An OpenAPI service that expects the canary as a bearer token.
    pub async fn bearer(canary: &Canary) -> LeakyService {
        let expected = format!("Bearer {}", canary.value);
        LeakyService::openapi(canary, r#"{"type":"http","scheme":"bearer"}"#, &["authorization"], expected).await
    }

    /// An object store with one bucket `lake`.
    pub async fn store(canary: &Canary) -> LeakyService {
        let leak = canary.leak().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        LeakyService::http(canary, move |request, mode| match mode {
            LeakMode::Authorizing if !is_signed(request) => {
                (403, "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>".to_string())
            }
            LeakMode::Authorizing if request.method() == "HEAD" => (200, String::new()),
            LeakMode::Authorizing => (
                200,
                format!(
                    "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>lake</Name><Prefix></Prefix><KeyCount>1</KeyCount><MaxKeys>20</MaxKeys><IsTruncated>false</IsTruncated><Contents><Key>{leak}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>\"1\"</ETag><Size>1</Size><StorageClass>{leak}</StorageClass></Contents></ListBucketResult>"
                ),
            ),
            LeakMode::Status(status) => {
                (status, format!("<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>{leak}</Message><StringToSign>{leak}</StringToSign><RequestId>{leak}</RequestId></Error>"))
            }
        })
        .await
    }

    async fn http(
        canary: &Canary,
        answer: impl Fn(&Request<Body>, LeakMode) -> (u16, String) + Clone + Send + Sync + 'static,
    ) -> LeakyService {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let (mode, calls) = (Arc::new(Mutex::new(LeakMode::Authorizing)), Arc::new(Mutex::new(Vec::new())));
        let service = LeakyService { base, mode: mode.clone(), calls: calls.clone() };
        let header = canary.value.clone();
        let app = axum::Router::new().fallback(move |request: Request<Body>| {
            calls.lock().expect("unpoisoned").push(format!("{} {}", request.method(), request.uri()));
            let now = *mode.lock().expect("unpoisoned");
            let (status, body) = answer(&request, now);
            let kind = if body.starts_with("<?xml") { "application/xml" } else { "application/json" };
            let builder = Response::builder().status(status).header("content-type", kind);
            // Headers that clients read, because vendors put ids, names and reasons into them.
            let builder = [
                "x-request-id",
                "x-amz-request-id",
                "www-authenticate",
                "x-oauth-scopes",
                "server",
                "etag",
                "x-amz-bucket-region",
            ]
            .iter()
            .fold(builder, |builder, name| builder.header(*name, &header));
            std::future::ready(builder.body(Body::from(body)).expect("a response"))
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        service
    }
}

/// Whether the request is signed as S3 demands it: signature version 4, with its date and the digest of the body.
fn is_signed(request: &Request<Body>) -> bool {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let authorization = header("authorization");
    authorization.starts_with("AWS4-HMAC-SHA256 Credential=")
        && ["SignedHeaders=", "Signature="].iter().all(|part| authorization.contains(part))
        && !header("x-amz-date").is_empty()
        && !header("x-amz-content-sha256").is_empty()
}

/// A PostgreSQL server that refuses every login and repeats the password in the error; returns its `host:port`.
pub async fn postgres(canary: &Canary) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let mut fields = Vec::new();
    for (tag, text) in [
        (b'S', "FATAL".to_string()),
        (b'V', "FATAL".to_string()),
        (b'C', "28P01".to_string()),
        (b'M', canary.leak()),
        (b'D', canary.leak()),
        (b'H', canary.leak()),
    ] {
        fields.push(tag);
        fields.extend(text.replace('\0', "").bytes());
        fields.push(0);
    }
    fields.push(0);
    let mut error = vec![b'E'];
    error.extend(u32::try_from(fields.len() + 4).expect("short").to_be_bytes());
    error.extend(fields);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = [0; 1024];
            let read = socket.read(&mut head).await.unwrap_or(0);
            // The client asks for TLS with an SSLRequest of 8 bytes. It is refused, and the startup message follows.
            if read == 8 {
                let _ = socket.write_all(b"N").await;
                let _ = socket.read(&mut head).await;
            }
            let _ = socket.write_all(&error).await;
            let _ = socket.shutdown().await;
        }
    });
    address
}
