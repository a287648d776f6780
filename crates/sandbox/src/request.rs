//! A request as the vendor sees it.

use crate::pattern::readable;
use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::CONTENT_TYPE;
use serde_json::{Map, Value};

pub struct Request {
    pub method: String,
    /// The vendor's name, in lower case and without port.
    pub host: String,
    /// As it was sent.
    pub raw_path: String,
    /// With escapes written out; `%2F` and `%25` stay.
    pub path: String,
    pub raw_query: String,
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub form: Vec<(String, String)>,
    pub json: Option<Value>,
    pub has_body: bool,
    pub body: Bytes,
    /// The port that the caller's TCP connection comes from.
    pub from_port: u16,
}

impl Request {
    pub fn new(method: &str, host: &str, uri: &hyper::Uri, headers: HeaderMap, body: &Bytes) -> Request {
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let content_type = content_type.to_ascii_lowercase();
        let is_form = content_type.starts_with("application/x-www-form-urlencoded");
        let pairs = |bytes: &[u8]| url::form_urlencoded::parse(bytes).into_owned().collect::<Vec<_>>();
        let raw_query = uri.query().unwrap_or_default();
        Request {
            method: method.to_owned(),
            host: host.to_ascii_lowercase(),
            raw_path: uri.path().to_owned(),
            path: readable(uri.path()),
            raw_query: raw_query.to_owned(),
            query: pairs(raw_query.as_bytes()),
            form: if is_form { pairs(body) } else { Vec::new() },
            json: if is_form { None } else { serde_json::from_slice(body).ok() },
            has_body: !body.is_empty(),
            body: body.clone(),
            headers,
            from_port: 0,
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn form(&self, name: &str) -> Option<&str> {
        self.form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A parameter at the place `query`, `form` or `json`.
    pub fn parameter(&self, place: &str, name: &str) -> Option<String> {
        match place {
            "form" => self.form(name).map(str::to_owned),
            "json" => self.json.as_ref()?.get(name).map(crate::template::text),
            _ => self.query(name).map(str::to_owned),
        }
    }

    /// The address of this request with one parameter of the query changed.
    pub fn address_with(&self, name: &str, value: &str) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (key, own) in self.query.iter().filter(|(key, _)| key != name) {
            query.append_pair(key, own);
        }
        query.append_pair(name, value);
        format!("{}{}?{}", self.vendor_origin(), self.raw_path, query.finish())
    }

    /// The address that the vendor believes to have.
    pub fn vendor_origin(&self) -> String {
        format!("https://{}", self.host)
    }
}

/// Pairs as a mapping; the first of several values counts.
pub fn mapping(pairs: &[(String, String)]) -> Value {
    let mut map = Map::new();
    for (key, value) in pairs {
        map.entry(key.clone()).or_insert_with(|| value.as_str().into());
    }
    Value::Object(map)
}

/// The headers as a mapping.
pub fn header_mapping(headers: &HeaderMap) -> Value {
    let text = |value: &hyper::header::HeaderValue| Value::from(String::from_utf8_lossy(value.as_bytes()));
    Value::Object(headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect())
}

/// The user and password of HTTP Basic authentication, after its prefix.
pub fn basic(value: &str) -> Option<String> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(value.trim()).ok()?;
    String::from_utf8(bytes).ok()
}
