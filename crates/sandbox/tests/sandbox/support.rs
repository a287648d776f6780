//! A sandbox in this process, and a client that reaches it through its proxy.

use reqwest::{Certificate, Client, Method, RequestBuilder, Response};
use sandbox::config::parse;
use sandbox::sandbox::{RunOptions, Sandbox};
use sandbox::server::{Entry, serve};
use sandbox::tls::Authority;
use sandbox::{jwt, keys};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::net::TcpListener;

pub const VENDOR: &str = include_str!("vendor.yaml");

pub struct Running {
    pub sandbox: Arc<Sandbox>,
    pub client: Client,
    pub proxy: String,
}

/// An answer that was read.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
    pub json: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// The field `error` of the body.
    pub fn error(&self) -> &str {
        self.json["error"].as_str().unwrap_or_default()
    }

    pub async fn read(response: Response) -> Answer {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status, headers, text, json }
    }
}

pub async fn start() -> Running {
    start_with(VENDOR, RunOptions::default()).await
}

pub async fn start_with(text: &str, options: RunOptions) -> Running {
    start_all(&[text], options).await
}

pub async fn start_all(texts: &[&str], options: RunOptions) -> Running {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let vendors = texts.iter().map(|text| parse("vendor.yaml", text).unwrap()).collect();
    let sandbox = Arc::new(Sandbox::new(vendors, options));
    let authority = Arc::new(Authority::new().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap().to_string();
    let certificate = Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    tokio::spawn(serve(listener, Arc::clone(&sandbox), Entry::Proxy(authority)));
    let client = Client::builder()
        .proxy(reqwest::Proxy::all(format!("http://{proxy}")).unwrap())
        .tls_certs_only([certificate])
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    Running { sandbox, client, proxy }
}

impl Running {
    pub fn request(&self, method: &str, url: &str) -> RequestBuilder {
        self.client.request(Method::from_bytes(method.as_bytes()).unwrap(), url)
    }

    pub async fn send(&self, request: RequestBuilder) -> Answer {
        Answer::read(request.send().await.unwrap()).await
    }

    pub async fn get(&self, url: &str, token: &str) -> Answer {
        self.send(self.request("GET", url).bearer_auth(token)).await
    }

    /// A request to the token endpoint of acme.
    pub async fn token(&self, form: &[(&str, &str)]) -> Answer {
        self.send(self.request("POST", TOKEN_URL).form(form)).await
    }

    pub async fn calls(&self) -> Vec<Value> {
        let answer = self.send(self.request("GET", "http://sandbox.invalid/calls")).await;
        answer.json.as_array().unwrap().clone()
    }

    pub async fn violations(&self) -> Vec<String> {
        self.calls().await.iter().filter_map(|call| call["violation"].as_str().map(str::to_owned)).collect()
    }
}

pub const TOKEN_URL: &str = "https://acme.vendor.test/oauth/token";

pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// The claims of an assertion that the token endpoint accepts, with changes.
pub fn claims(client: &str, changes: Value) -> Value {
    let mut claims = json!({
        "iss": client, "sub": client, "aud": TOKEN_URL, "iat": now(), "exp": now() + 200, "jti": format!("{}", fastrand::u128(..)),
    });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

pub fn sign(key: &str, claims: &Value) -> String {
    jwt::sign(keys::pair(key).unwrap(), &json!({}), claims).unwrap()
}
