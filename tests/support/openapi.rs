//! The `openapi` engine on a real session, and servers whose responses a test chooses.

use crate::support::session::{self, RecordingSession};
use aam::connectors::openapi::OpenApiEngine;
use aam::connectors::{Bounds, Discovery, Opened, Sample};
use aam::credentials::{Credential, Secret};
use aam::model::{Evidence, Failure};
use aam::policy::{FamilyPolicy, Policy};
use axum::body::Body;
use axum::http::{Request as HttpRequest, Response};
use std::sync::Arc;
use std::time::Duration;

/// An opened connection, or why it did not open, and the session with what was sent.
pub struct OpenApiRun {
    pub session: Arc<RecordingSession>,
    pub opened: Result<Opened, Failure>,
}

impl OpenApiRun {
    pub async fn open(url: &str, credential: Option<&str>, family: FamilyPolicy) -> OpenApiRun {
        let policy = policy(family);
        let session = RecordingSession::new("openapi", Arc::new(policy.clone()));
        let credential = credential.map(|text| Credential::read(Secret::new(text.into())));
        let opened = OpenApiEngine::open_over(session.clone(), url, credential, &policy).await;
        OpenApiRun { session, opened }
    }

    fn opened(&self) -> Result<&Opened, Failure> {
        self.opened.as_ref().map_err(Clone::clone)
    }

    pub async fn discover(&self) -> Result<Discovery, Failure> {
        self.opened()?.connector.discover(Bounds::default()).await
    }

    pub async fn health(&self) -> Result<Evidence, Failure> {
        self.opened()?.connector.health().await
    }

    pub async fn tiny(&self, max_items: u32) -> Result<Sample, Failure> {
        let catalog = self.discover().await?.catalog;
        self.opened()?.connector.tiny_sync(&catalog, max_items).await
    }

    pub fn calls(&self) -> Vec<String> {
        self.session.calls()
    }

    /// The paths of all calls, in order.
    pub fn paths(&self) -> Vec<String> {
        let path = |call: &String| {
            let url = call.strip_prefix("GET ").and_then(|url| url::Url::parse(url).ok()).expect("a GET of a URL");
            url.path().to_string() + &url.query().map(|query| format!("?{query}")).unwrap_or_default()
        };
        self.calls().iter().map(path).collect()
    }

    /// The value of the header `name` of each call to `path`.
    pub fn headers(&self, path: &str, name: &str) -> Vec<Option<String>> {
        let sent = self.session.sent.lock().expect("unpoisoned");
        let of_path = sent.iter().filter(|call| call.lines().next().is_some_and(|line| line.ends_with(path)));
        let prefix = format!("{name}: ");
        of_path.map(|call| call.lines().find_map(|line| line.strip_prefix(&prefix).map(str::to_string))).collect()
    }
}

/// Opens a connection and checks its health; returns the first failure.
pub async fn failure(url: &str, credential: Option<&str>, family: FamilyPolicy) -> Failure {
    OpenApiRun::open(url, credential, family).await.health().await.expect_err("this must fail")
}

/// The settings of the family in a policy that holds `families`, a line of YAML.
pub fn family(families: &str) -> FamilyPolicy {
    let text = format!("version: 1\nallowlist: [openapi]\n{families}\n");
    let policy = aam::policy::parse::parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{text}: {problems:#?}"));
    policy.family("openapi")
}

/// The settings of the family after the `fix` of a failure was pasted into an empty policy, with `real` in the place of the
/// example of the fix.
pub fn pasted(fix: &str, setting: &str, example: &str, real: &str) -> FamilyPolicy {
    let lines = fix.match_indices("families: {").map(|(at, _)| {
        let mut depth = 0;
        let end = fix[at..].find(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == '}' && depth == 0
        });
        fix[at..].get(..=end.unwrap_or_else(|| panic!("a whole line of YAML: {fix}"))).unwrap()
    });
    let line = lines.into_iter().find(|line| line.contains(setting)).unwrap_or_else(|| panic!("{fix} does not set {setting}"));
    assert!(line.contains(example), "{line} does not contain {example}");
    family(&line.replace(example, real))
}

/// The description of a case in `tests/data/openapi`.
pub fn case(name: &str) -> String {
    let path = format!("{}/tests/data/openapi/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A policy whose steps time out after three seconds.
fn policy(family: FamilyPolicy) -> Policy {
    let mut policy = session::policy(Duration::from_secs(3), None);
    policy.families.insert("openapi".to_string(), family);
    policy
}

/// A response: status, headers, body.
pub type MockResponse = (u16, Vec<(&'static str, String)>, String);

pub fn json_response(body: impl Into<String>) -> MockResponse {
    (200, vec![("content-type", "application/json".into())], body.into())
}

/// Starts a server that answers every path with `answer`; returns its base URL.
pub async fn serve(answer: impl Fn(&str, &HttpRequest<Body>) -> MockResponse + Clone + Send + Sync + 'static) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let app = axum::Router::new().fallback(move |request: HttpRequest<Body>| {
        let (status, headers, body) = answer(request.uri().path(), &request);
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(name, value);
        }
        std::future::ready(response.body(Body::from(body)).unwrap())
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    base
}

/// Starts a server that sends `head` to each client and then either hangs or closes the connection; returns its base URL.
pub async fn raw(head: &'static str, hang: bool) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.read(&mut [0; 4096]).await;
            let _ = socket.write_all(head.as_bytes()).await;
            if hang {
                held.push(socket);
            }
        }
    });
    base
}
