//! Read-only POSTs. A POST is sent only if the source's list names it exactly; otherwise it is refused before a socket
//! opens.
//!
//! The body is parsed, compared with its rule, and serialized again, so that the body that was checked is the body that
//! is sent. If the original bytes were sent, the server could interpret them differently from the rule, for example if
//! a key is repeated or the encoding is unusual.

use super::statement::{Language, without_values};
use super::{HttpRequest, Method};
use crate::credentials::{Secret, redact};
use crate::model::{Allowed, BodyRule, Class, Failure, PostRule, Posts, Shape};
use bytes::Bytes;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use url::Url;

/// The request body and headers that a matching rule allows.
#[derive(Debug)]
pub struct Permit {
    pub body: Bytes,
    /// The `Content-Type` to add. It is `None` if there is no body, or if the request already has the type that the
    /// rule requires.
    pub content_type: Option<&'static str>,
    pub idempotent: bool,
    /// The list and the entry that allow the request.
    pub rule: String,
    /// The statement in the body, without values.
    pub statement: String,
}

/// Checks the POST `request` against the list.
///
/// # Errors
/// Returns `EgressRefused`, which names the request, what does not match, and the list that would allow it.
pub fn permit(posts: &Posts, request: &HttpRequest) -> Result<Permit, Failure> {
    let near: Vec<&PostRule> = posts.rules.iter().filter(|rule| address_matches(rule, &request.url)).collect();
    let mut reasons = Vec::new();
    for rule in &near {
        match apply(rule, request) {
            Ok(permit) => {
                let separator = if posts.list.is_empty() { "" } else { ": " };
                return Ok(Permit { rule: format!("{}{separator}{}", posts.list, rule.why), ..permit });
            }
            Err(reason) if reasons.len() < 3 && !reasons.contains(&reason) => reasons.push(reason),
            Err(_) => {}
        }
    }
    let title = format!("POST {} was not sent: it is not on the list of read-only POSTs", shown_url(&request.url));
    let list = if posts.list.is_empty() { "this source has no such list" } else { posts.list.as_str() };
    let fix = format!(
        "aam sends GET and HEAD, and a POST only if it is listed as changing nothing. The list: {list}. If this call only reads, \
         add it there with address and body, and have the change reviewed"
    );
    let detail = if near.is_empty() { "no entry names this address".to_string() } else { reasons.join("; ") };
    Err(Failure::new(Class::EgressRefused, title, fix).detail(redact::scrub(&detail)))
}

/// Returns the failure for a POST that is redirected. Following the redirect would send the body to another address, or
/// repeat the request with another method.
pub fn redirected(posts: &Posts, url: &Url, status: u16) -> Failure {
    let title = format!("POST {} is redirected; AAM does not follow redirects of a POST", shown_url(url));
    // Token endpoints and vaults are not part of a resource id.
    let fix = match posts.list.starts_with("credentials.") {
        true => format!("write the final address into {} in the policy", posts.list),
        false => "write the final address into the resource id or into the list of read-only POSTs".to_string(),
    };
    Failure::new(Class::EgressRefused, title, fix).detail(format!("status {status}"))
}

/// Returns scheme, host, port and path. They are scrubbed, because some services put keys into paths.
fn shown_url(url: &Url) -> String {
    redact::scrub(&format!("{}{}", url.origin().ascii_serialization(), url.path())).into_owned()
}

/// Returns whether scheme, host, port and path are equal. The `url` crate has normalized both, so the comparison is
/// byte by byte.
fn address_matches(rule: &PostRule, url: &Url) -> bool {
    let Ok(listed) = Url::parse(&rule.url) else { return false };
    let plain = |url: &Url| url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    plain(url)
        && plain(&listed)
        && listed.query().is_none()
        && listed.origin().is_tuple()
        && listed.origin() == url.origin()
        && is_same_path(listed.path(), url.path())
}

/// Returns true if both paths have the same segments. `a:b` and `a%3Ab` are two spellings of one segment (RFC 3986, section
/// 6.2.2.2, and section 3.3 for the colon); an encoded slash does not separate segments.
fn is_same_path(one: &str, other: &str) -> bool {
    let segments = |path: &str| -> Vec<Vec<u8>> {
        path.split('/').map(|segment| percent_encoding::percent_decode_str(segment).collect()).collect()
    };
    one == other || segments(one) == segments(other)
}

fn apply(rule: &PostRule, request: &HttpRequest) -> Result<Permit, String> {
    let pairs = request.url.query().map(|query| pairs(query, "query")).transpose()?.unwrap_or_default();
    check_shape(&rule.query, &texts(&pairs), "query", true)?;
    for (name, value) in &rule.headers {
        let sent: Vec<&Secret> = header_values(request, name).collect();
        if sent.len() != 1 || sent.first().is_none_or(|sent| sent.expose() != value) {
            return Err(format!("the entry requires the header {name}: {value}"));
        }
    }
    let sent = match &request.method {
        Method::ListedPost(body) => body.as_ref(),
        Method::Get | Method::Head | Method::MetadataToken => return Err("the entry is for a POST".to_string()),
    };
    let (body, body_type) = body(rule, sent)?;
    let body_type = body_type.filter(|_| !rule.headers.contains_key("content-type"));
    let named: Vec<&Secret> = header_values(request, "content-type").collect();
    let content_type = match (body_type, named.as_slice()) {
        (Some(media), [named]) if media_type(named.expose()) == media => None,
        (Some(media), [_, ..]) => return Err(format!("the entry requires the content type {media}")),
        (other, _) => other,
    };
    let statement = statement(rule, &body).or_else(|| action(rule, &body, &pairs)).unwrap_or_default();
    Ok(Permit { body, content_type, idempotent: rule.idempotent, rule: String::new(), statement })
}

/// The keys of bodies that hold a statement: `q` is that of SuiteQL, `Sql` that of the Redshift Data API.
const STATEMENT_KEYS: [&str; 6] = ["statement", "Sql", "sql", "query", "q", "soql"];
/// The keys of forms, queries and JSON bodies that name the operation, where all operations have one address: `Action` in the
/// query protocol of AWS, `method` in JSON-RPC.
const ACTION_KEYS: [&str; 5] = ["Action", "action", "method", "operation", "operationName"];
/// The headers that name the operation: the JSON protocol of AWS, and SOAP.
const ACTION_HEADERS: [&str; 2] = ["x-amz-target", "soapaction"];

/// Whether `shape` fixes the text of `key`. A text that a rule does not fix is a value.
fn is_fixed(shape: &Shape, key: &str) -> bool {
    matches!(shape.get(key), Some(Allowed::Is(_) | Allowed::OneOf(_) | Allowed::Sql(_)))
}

/// Returns the text of `key` in a body that `rule` allows, if the rule fixes it.
fn fixed_text(rule: &BodyRule, body: &[u8], key: &str) -> Option<String> {
    match rule {
        BodyRule::Json(shape) if is_fixed(shape, key) => {
            let value: Value = serde_json::from_slice(body).ok()?;
            Some(value.get(key)?.as_str()?.to_string())
        }
        BodyRule::Form(shape) if is_fixed(shape, key) => {
            url::form_urlencoded::parse(body).find(|(name, _)| name == key).map(|(_, value)| value.into_owned())
        }
        BodyRule::None | BodyRule::Null | BodyRule::Form(_) | BodyRule::Json(_) => None,
    }
}

/// Returns the statement of a body that `rule` allows, without its values.
fn statement(rule: &PostRule, body: &[u8]) -> Option<String> {
    let text = STATEMENT_KEYS.into_iter().find_map(|key| fixed_text(&rule.body, body, key))?;
    let language = if text.trim_start().starts_with(['{', 'q']) { Language::GraphQl } else { Language::Sql };
    Some(without_values(&text, language))
}

/// Returns the name of the operation that `rule` allows: from a header, the body, or the query of the URL.
fn action(rule: &PostRule, body: &[u8], query: &[(String, String)]) -> Option<String> {
    let in_header = || ACTION_HEADERS.into_iter().find_map(|name| rule.headers.get(name).cloned());
    let in_body = || ACTION_KEYS.into_iter().find_map(|key| fixed_text(&rule.body, body, key));
    let in_query = || {
        let fixed = |(name, _): &&(String, String)| ACTION_KEYS.contains(&name.as_str()) && is_fixed(&rule.query, name);
        query.iter().find(fixed).map(|(_, value)| value.clone())
    };
    in_header().or_else(in_body).or_else(in_query)
}

fn header_values<'a>(request: &'a HttpRequest, name: &'a str) -> impl Iterator<Item = &'a Secret> {
    request.headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn media_type(value: &str) -> String {
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Returns the body to send and its media type.
fn body(rule: &PostRule, sent: Option<&Secret>) -> Result<(Bytes, Option<&'static str>), String> {
    let text = sent.map(|body| body.expose().trim()).filter(|text| !text.is_empty());
    match (&rule.body, text) {
        (BodyRule::None, None) => Ok((Bytes::new(), None)),
        (BodyRule::None, Some(_)) => Err("the entry allows no body".to_string()),
        (BodyRule::Null, Some("null")) => Ok((Bytes::from_static(b"null"), Some("application/json"))),
        (BodyRule::Null, _) => Err("the entry allows only the body null".to_string()),
        (BodyRule::Form(shape), text) => {
            let pairs = pairs(text.unwrap_or_default(), "form")?;
            check_shape(shape, &texts(&pairs), "form", true)?;
            let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            Ok((Bytes::from(encode_form(pairs)), Some("application/x-www-form-urlencoded")))
        }
        (BodyRule::Json(shape), text) => {
            let value: Value =
                serde_json::from_str(text.unwrap_or("{}")).map_err(|_| "the body is not valid JSON".to_string())?;
            let Value::Object(object) = &value else { return Err("the body is not a JSON object".to_string()) };
            check_shape(shape, object, "body", false)?;
            Ok((Bytes::from(value.to_string()), Some("application/json")))
        }
    }
}

/// Encodes a form as it is sent, for callers that sign the body. `*` is encoded too, which is allowed and which Python does:
/// a server that encodes a form again before it verifies the signature then has the same bytes, for example moto.
#[must_use]
pub fn encode_form<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish().replace('*', "%2A")
}

/// Decodes the pairs of a query or a form. A repeated key is refused, because servers differ in which of its values
/// they use.
fn pairs(text: &str, what: &str) -> Result<Vec<(String, String)>, String> {
    let mut seen = BTreeSet::new();
    let mut out = Vec::new();
    for (key, value) in url::form_urlencoded::parse(text.as_bytes()) {
        if !seen.insert(key.to_string()) {
            return Err(format!("{what} key {} is repeated", shown(&key)));
        }
        out.push((key.into_owned(), value.into_owned()));
    }
    Ok(out)
}

fn texts(pairs: &[(String, String)]) -> Map<String, Value> {
    pairs.iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))).collect()
}

/// Checks that every key is allowed and that every key with a fixed value is present. If `as_text` is true, numbers and
/// booleans of the rule are compared in their text form, because a form contains only text.
fn check_shape(shape: &Shape, object: &Map<String, Value>, what: &str, as_text: bool) -> Result<(), String> {
    for (key, value) in object {
        let Some(allowed) = shape.get(key) else {
            let all: Vec<&str> = shape.keys().map(String::as_str).collect();
            let all = if all.is_empty() { "none".to_string() } else { all.join(", ") };
            return Err(format!("{what} key {} is not allowed (allowed: {all})", shown(key)));
        };
        let equals = |listed: &Value| match (listed, as_text) {
            (Value::Bool(_) | Value::Number(_), true) => value.as_str() == Some(&listed.to_string()),
            _ => listed == value,
        };
        let fine = match allowed {
            Allowed::Any => flat(value),
            Allowed::Is(listed) => equals(listed),
            Allowed::OneOf(list) => list.iter().any(equals),
            Allowed::Sql(list) => value.as_str().is_some_and(|text| list.iter().any(|listed| is_statement(listed, text))),
            Allowed::Object(inner) => match value {
                Value::Object(object) if !as_text => {
                    // The nesting depth of the rule limits this recursion.
                    check_shape(inner, object, key, false)?;
                    true
                }
                _ => false,
            },
        };
        if !fine {
            return Err(format!("{what} key {key} has a value that the entry does not allow"));
        }
    }
    match shape.iter().find(|(key, allowed)| matches!(allowed, Allowed::Is(_)) && !object.contains_key(*key)) {
        Some((key, _)) => Err(format!("{what} key {key} is missing")),
        None => Ok(()),
    }
}

/// Returns true if `text` is the statement `listed`, in which `{name}` stands for one identifier in double quotes.
/// A double quote inside an identifier is written twice, so the identifier cannot end early and add SQL of its own.
fn is_statement(listed: &str, text: &str) -> bool {
    let mut pieces = listed.split("{name}");
    let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else { return false };
    for piece in pieces {
        let Some(after) = after_identifier(rest).and_then(|after| after.strip_prefix(piece)) else { return false };
        rest = after;
    }
    rest.is_empty()
}

/// Returns what follows the identifier in double quotes at the beginning of `text`, or `None` if it does not begin with one.
fn after_identifier(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('"')?;
    let mut chars = inner.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' if chars.next_if(|(_, next)| *next == '"').is_some() => {}
            '"' => return inner.get(at + 1..).filter(|_| at > 0),
            _ if c.is_control() => return None,
            _ => {}
        }
    }
    None
}

fn flat(value: &Value) -> bool {
    match value {
        Value::Object(_) => false,
        Value::Array(items) => items.iter().all(|item| !item.is_array() && !item.is_object()),
        _ => true,
    }
}

/// Shortens a key of an untrusted body so that it fits on one line.
fn shown(key: &str) -> String {
    key.chars().filter(|c| !c.is_control()).take(40).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_spellings_of_a_segment_are_one_address_and_two_segments_are_not() {
        use super::is_same_path;
        assert!(is_same_path("/v3/projects/acme.example%3Aproj1:test", "/v3/projects/acme.example:proj1:test"));
        assert!(!is_same_path("/v3/projects/a%2Fb", "/v3/projects/a/b"));
        assert!(!is_same_path("/v3/projects/a", "/v3/projects/A"));
    }

    use super::*;
    use serde_json::json;

    fn recorded(rule: Value, query: &str, body: &str) -> String {
        let rule: PostRule = serde_json::from_value(rule).unwrap();
        let pairs = pairs(query, "query").unwrap();
        statement(&rule, body.as_bytes()).or_else(|| action(&rule, body.as_bytes(), &pairs)).unwrap_or_default()
    }

    #[test]
    fn the_statement_or_the_operation_of_a_post_is_recorded_without_values() {
        let rule = |headers: Value, query: Value, body: Value| json!({"url": "https://a.example/", "why": "reads", "headers": headers, "query": query, "body": body});
        let netsuite = rule(json!({}), json!({}), json!({"json": {"q": {"one_of": ["SELECT 'x' AS ok FROM DUAL"]}}}));
        assert_eq!(recorded(netsuite, "", r#"{"q":"SELECT 'x' AS ok FROM DUAL"}"#), "SELECT ? AS ok FROM DUAL");
        let target = json!({"x-amz-target": "AWSOrganizationsV20161128.ListAccounts"});
        let aws = rule(target, json!({}), json!({"json": {"NextToken": "any"}}));
        assert_eq!(recorded(aws, "", r#"{"NextToken":"secret"}"#), "AWSOrganizationsV20161128.ListAccounts");
        let form = rule(json!({}), json!({}), json!({"form": {"Action": {"is": "GetCallerIdentity"}, "Token": "any"}}));
        assert_eq!(recorded(form, "", "Token=secret&Action=GetCallerIdentity"), "GetCallerIdentity");
        let in_query = rule(json!({}), json!({"Action": {"one_of": ["List", "Get"]}}), json!("none"));
        assert_eq!(recorded(in_query, "Action=List", ""), "List");
        let open = rule(json!({}), json!({"action": "any"}), json!({"json": {"q": "any", "method": "any"}}));
        assert_eq!(recorded(open, "action=secret", r#"{"q":"secret","method":"secret"}"#), "", "values are not recorded");
    }

    #[test]
    fn an_identifier_cannot_end_early_and_add_sql() {
        let listed = "SHOW GRANTS TO ROLE {name} LIMIT 10";
        for (name, fine) in [
            (r#""AAM""#, true),
            (r#""a ""quoted"" role; --""#, true),
            (r#""Größe""#, true),
            ("AAM", false),
            (r#""""#, false),
            (r#""AAM"#, false),
            (r#""A"; DROP TABLE t; --""#, false),
            (r#""A" "B""#, false),
            ("\"A\nB\"", false),
        ] {
            assert_eq!(is_statement(listed, &format!("SHOW GRANTS TO ROLE {name} LIMIT 10")), fine, "{name}");
        }
        assert!(is_statement("SHOW TABLES", "SHOW TABLES") && !is_statement("SHOW TABLES", "SHOW TABLES "));
        assert!(is_statement("{name}.{name}", r#""a"."b""#) && !is_statement("{name}.{name}", r#""a"."b"c"#));
    }
}
