//! A plain client in place of the egress layer, and servers that behave as a test wants.

use aam::connectors::openapi::OpenApiEngine;
use aam::connectors::openapi::wire::Wire;
use aam::connectors::{Bounds, Discovery, Opened, Sample};
use aam::credentials::{Credential, Secret};
use aam::egress::{Answer, Method, Request, Traffic};
use aam::model::{Class, Digest, Evidence, Failure, Risk};
use aam::policy::{
    Api, Backoff, Breaker, Cap, Caps, Eligibility, FamilyPolicy, Files, Network, Policy, Recheck, Reconcile, SafeMode, Slo,
};
use axum::body::Body;
use axum::http::{Request as HttpRequest, Response};
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Sends with reqwest, follows redirects on the same origin only, and remembers every call.
#[derive(Default)]
pub struct Plain {
    /// `METHOD URL` and the names of the headers.
    pub calls: Mutex<Vec<(String, Vec<String>)>>,
}

impl Wire for Plain {
    fn http(&self, request: Request) -> BoxFuture<'_, Result<Answer, Failure>> {
        Box::pin(self.send(request))
    }

    fn traffic(&self) -> Traffic {
        Traffic { calls: self.calls.lock().unwrap().len() as u64, bytes: 0 }
    }
}

impl Plain {
    async fn send(&self, request: Request) -> Result<Answer, Failure> {
        let network = |error: reqwest::Error| Failure::new(Class::Network, "the line broke", "").detail(error.to_string());
        let names = request.headers.iter().map(|(name, _)| name.clone()).collect();
        self.calls.lock().unwrap().push((format!("{:?} {}", request.method, request.url), names));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let same = reqwest::redirect::Policy::custom(|attempt| {
            let stays = attempt.previous().last().is_some_and(|last| last.origin() == attempt.url().origin());
            if stays && attempt.previous().len() < 5 { attempt.follow() } else { attempt.stop() }
        });
        let client =
            reqwest::Client::builder().redirect(same).timeout(Duration::from_secs(2)).no_proxy().build().map_err(network)?;
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Head => reqwest::Method::HEAD,
        };
        let mut builder = client.request(method, request.url);
        for (name, value) in &request.headers {
            builder = builder.header(name, value.expose());
        }
        let response = builder.send().await.map_err(network)?;
        let headers =
            response.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_string()));
        let (status, headers, url) = (response.status().as_u16(), headers.collect(), response.url().clone());
        let body = response
            .bytes()
            .await
            .map_err(|error| Failure::new(Class::Remote, "the answer was cut", "").detail(error.to_string()))?;
        assert!(body.len() as u64 <= request.max_bytes);
        Ok(Answer { status, headers, body, url })
    }
}

/// One whole run.
pub struct Run {
    pub wire: Arc<Plain>,
    pub opened: Result<Opened, Failure>,
}

impl Run {
    pub async fn open(url: &str, credential: Option<&str>, family: FamilyPolicy) -> Run {
        let wire = Arc::new(Plain::default());
        let credential = credential.map(|text| Credential::read(Secret::new(text.into())));
        let opened = OpenApiEngine::open_over(wire.clone(), url, credential, &policy(family)).await;
        Run { wire, opened }
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
        self.wire.calls.lock().unwrap().iter().map(|(call, _)| call.clone()).collect()
    }
}

/// Open and health, and the failure of whichever fails first.
pub async fn failure(url: &str, credential: Option<&str>, family: FamilyPolicy) -> Failure {
    Run::open(url, credential, family).await.health().await.expect_err("this must fail")
}

fn policy(family: FamilyPolicy) -> Policy {
    let second = Duration::from_secs(1);
    let cap = Cap { per_second: 100.0, burst: 100, per_day: 1000, concurrency: 4 };
    Policy {
        version: 1,
        namespace: "autonomy".into(),
        slo: Slo { coverage: 0.9 },
        eligibility: Eligibility { evidence: vec!["Sanctioned".into()], max_risk: Risk::High, min_confidence: 0.0 },
        safe_mode: SafeMode { max_items: 20, step_timeout: 20 * second, attempt_timeout: 60 * second },
        allowlist: ["openapi".to_string()].into(),
        network: Network { allow_private: Vec::new(), proxy: None, ca_file: None },
        files: Files { roots: Vec::new() },
        caps: Caps { default: cap, families: BTreeMap::new() },
        backoff: Backoff { initial: second, max: second, jitter: 0.0 },
        breaker: Breaker { failures: 5, open_for: second },
        recheck: Recheck { health: second, drift: second, awaiting_credentials: second },
        reconcile: Reconcile { concurrency: 1, resync: second },
        families: [("openapi".to_string(), family)].into(),
        api: Api::default(),
        digest: Digest::default(),
    }
}

/// What a server answers: status, headers, body.
pub type Page = (u16, Vec<(&'static str, String)>, String);

pub fn json(body: impl Into<String>) -> Page {
    (200, vec![("content-type", "application/json".into())], body.into())
}

/// A server on loopback that answers every path by `answer`; its base URL.
pub async fn serve(answer: impl Fn(&str, &HttpRequest<Body>) -> Page + Clone + Send + Sync + 'static) -> String {
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

/// A server that sends `head` to whoever connects, and then either hangs or hangs up.
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
