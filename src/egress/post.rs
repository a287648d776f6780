//! Read-only POSTs: let through by the exact list of the source, or refused before a socket opens.
//!
//! What was judged is what is sent: a body is read, held against its rule and written anew, so that no
//! second reading of the same bytes (a key twice, another encoding) can say more than the rule saw.

use crate::credentials::{Secret, redact};
use crate::model::{Allowed, BodyRule, Class, Failure, PostRule, Posts, Shape};
use bytes::Bytes;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use url::Url;

/// One POST that a source asks for.
pub struct Post {
    pub url: Url,
    /// Values may be secret; they are never logged.
    pub headers: Vec<(String, Secret)>,
    /// May hold a secret, as token calls do.
    pub body: Option<Secret>,
    /// The answer is cut here and the call fails.
    pub max_bytes: u64,
}

/// What may be sent.
#[derive(Debug)]
pub struct Permit {
    pub body: Bytes,
    /// `None`: there is no body, or the headers name the type as the rule wants it.
    pub content_type: Option<&'static str>,
    pub idempotent: bool,
}

/// Holds `post` against the list.
///
/// # Errors
/// `EgressRefused` naming the call, what does not fit and the list that would allow it.
pub fn permit(posts: &Posts, post: &Post) -> Result<Permit, Failure> {
    let near: Vec<&PostRule> = posts.rules.iter().filter(|rule| address_fits(rule, &post.url)).collect();
    let mut why = Vec::new();
    for rule in &near {
        match fits(rule, post) {
            Ok(permit) => return Ok(permit),
            Err(words) if why.len() < 3 && !why.contains(&words) => why.push(words),
            Err(_) => {}
        }
    }
    let title = format!("POST {} was not sent: it is not on the list of read-only POSTs", place(&post.url));
    let list = if posts.list.is_empty() { "this source has no such list" } else { posts.list.as_str() };
    let fix = format!(
        "aam sends GET and HEAD, and a POST only if it is listed as changing nothing. The list: {list}. If this call only reads, \
         add it there with address and body, and have the change reviewed"
    );
    let detail = if near.is_empty() { "no entry names this address".to_string() } else { why.join("; ") };
    Err(Failure::new(Class::EgressRefused, title, fix).detail(redact::scrub(&detail)))
}

/// A POST is never sent on: another address would get the body, or a changed method the headers.
pub fn redirected(url: &Url, status: u16) -> Failure {
    let title = format!("POST {} is redirected; AAM does not send a POST on", place(url));
    Failure::new(
        Class::EgressRefused,
        title,
        "name the address that answers, in the resource id or in the list of read-only POSTs",
    )
    .detail(format!("status {status}"))
}

/// Scheme, host, port and path, scrubbed: some services put keys into paths.
fn place(url: &Url) -> String {
    redact::scrub(&format!("{}{}", url.origin().ascii_serialization(), url.path())).into_owned()
}

/// The same scheme, host, port and path, byte by byte after `url` brought both to their normal form.
fn address_fits(rule: &PostRule, url: &Url) -> bool {
    let Ok(listed) = Url::parse(&rule.url) else { return false };
    let plain = |url: &Url| url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    plain(url)
        && plain(&listed)
        && listed.query().is_none()
        && listed.origin().is_tuple()
        && listed.origin() == url.origin()
        && listed.path() == url.path()
}

fn fits(rule: &PostRule, post: &Post) -> Result<Permit, String> {
    let pairs = post.url.query().map(|query| pairs(query, "query")).transpose()?.unwrap_or_default();
    holds(&rule.query, &texts(&pairs), "query", true)?;
    for (name, value) in &rule.headers {
        let sent: Vec<&Secret> = values(post, name).collect();
        if sent.len() != 1 || sent.first().is_none_or(|sent| sent.expose() != value) {
            return Err(format!("the entry wants the header {name}: {value}"));
        }
    }
    let (body, of_body) = body(rule, post.body.as_ref())?;
    let of_body = of_body.filter(|_| !rule.headers.contains_key("content-type"));
    let named: Vec<&Secret> = values(post, "content-type").collect();
    let content_type = match (of_body, named.as_slice()) {
        (Some(media), [named]) if media_type(named.expose()) == media => None,
        (Some(media), [_, ..]) => return Err(format!("the entry wants the content type {media}")),
        (other, _) => other,
    };
    Ok(Permit { body, content_type, idempotent: rule.idempotent })
}

fn values<'a>(post: &'a Post, name: &'a str) -> impl Iterator<Item = &'a Secret> {
    post.headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn media_type(value: &str) -> String {
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The body as it goes out, and its media type.
fn body(rule: &PostRule, sent: Option<&Secret>) -> Result<(Bytes, Option<&'static str>), String> {
    let text = sent.map(|body| body.expose().trim()).filter(|text| !text.is_empty());
    match (&rule.body, text) {
        (BodyRule::None, None) => Ok((Bytes::new(), None)),
        (BodyRule::None, Some(_)) => Err("the entry allows no body".to_string()),
        (BodyRule::Form(shape), text) => {
            let pairs = pairs(text.unwrap_or_default(), "form")?;
            holds(shape, &texts(&pairs), "form", true)?;
            let written = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
            Ok((Bytes::from(written), Some("application/x-www-form-urlencoded")))
        }
        (BodyRule::Json(shape), text) => {
            let value: Value = serde_json::from_str(text.unwrap_or("{}")).map_err(|_| "the body is no JSON".to_string())?;
            let Value::Object(object) = &value else { return Err("the body is no JSON object".to_string()) };
            holds(shape, object, "body", false)?;
            Ok((Bytes::from(value.to_string()), Some("application/json")))
        }
    }
}

/// The decoded pairs of a query or form; a key twice is two answers to one question.
fn pairs(text: &str, what: &str) -> Result<Vec<(String, String)>, String> {
    let mut seen = BTreeSet::new();
    let mut out = Vec::new();
    for (key, value) in url::form_urlencoded::parse(text.as_bytes()) {
        if !seen.insert(key.to_string()) {
            return Err(format!("{what} key {} stands twice", shown(&key)));
        }
        out.push((key.into_owned(), value.into_owned()));
    }
    Ok(out)
}

fn texts(pairs: &[(String, String)]) -> Map<String, Value> {
    pairs.iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))).collect()
}

/// Every key is allowed, and every key with a fixed value is there. `as_text`: numbers and truth values of
/// the rule are compared as they are written in a form.
fn holds(shape: &Shape, object: &Map<String, Value>, what: &str, as_text: bool) -> Result<(), String> {
    for (key, value) in object {
        let Some(allowed) = shape.get(key) else {
            let all: Vec<&str> = shape.keys().map(String::as_str).collect();
            let all = if all.is_empty() { "none".to_string() } else { all.join(", ") };
            return Err(format!("{what} key {} is not allowed (allowed: {all})", shown(key)));
        };
        let same = |listed: &Value| match (listed, as_text) {
            (Value::Bool(_) | Value::Number(_), true) => value.as_str() == Some(&listed.to_string()),
            _ => listed == value,
        };
        let fine = match allowed {
            Allowed::Any => flat(value),
            Allowed::Is(listed) => same(listed),
            Allowed::OneOf(list) => list.iter().any(same),
            Allowed::Object(inner) => match value {
                Value::Object(object) if !as_text => {
                    // The nesting of the rule bounds this.
                    holds(inner, object, key, false)?;
                    true
                }
                _ => false,
            },
        };
        if !fine {
            return Err(format!("{what} key {key} holds something else than the entry allows"));
        }
    }
    match shape.iter().find(|(key, allowed)| matches!(allowed, Allowed::Is(_)) && !object.contains_key(*key)) {
        Some((key, _)) => Err(format!("{what} key {key} is missing")),
        None => Ok(()),
    }
}

fn flat(value: &Value) -> bool {
    match value {
        Value::Object(_) => false,
        Value::Array(items) => items.iter().all(|item| !item.is_array() && !item.is_object()),
        _ => true,
    }
}

/// A key of a stranger's body, short enough for one line.
fn shown(key: &str) -> String {
    key.chars().filter(|c| !c.is_control()).take(40).collect()
}
