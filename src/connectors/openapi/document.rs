//! Turns response bytes into a description, or reports what they are instead.

use super::address::host_of;
use super::parse::{ParseError, parse};
use crate::credentials::redact;
use crate::model::{Class, Digest, Failure};
use serde_json::{Map, Value};
use std::borrow::Cow;
use url::Url;

/// The top level of a description.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    pub root: Value,
    /// The URL that returned the description, after redirects.
    pub url: Url,
    pub title: String,
    /// `info.version`: the version of the API.
    pub version: String,
    /// The `openapi` field, for example `3.1.0`.
    pub openapi: String,
    /// SHA-256 of the bytes as served.
    pub digest: Digest,
    pub bytes: usize,
}

impl Description {
    /// Reads the bytes that `url` returned.
    ///
    /// # Errors
    /// `WrongService` for a web page, other JSON or nothing at all; `Unsupported` for Swagger 2.0 and for a description that
    /// exceeds a limit of AAM; `Remote` for text that is not valid.
    pub fn read(bytes: &[u8], url: Url) -> Result<Description, Failure> {
        let place = format!("{}{}", host_of(&url), url.path());
        let wrong = |found: &str| {
            let title = format!("{place} returned {found}, not an OpenAPI description");
            Failure::new(Class::WrongService, title, NAME_THE_DESCRIPTION)
        };
        let text = String::from_utf8_lossy(bytes);
        // Text in another encoding is read as far as it is ASCII, and descriptions mostly are.
        let is_utf8 = matches!(text, Cow::Borrowed(_));
        let text = text.trim_start_matches('\u{feff}');
        if text.trim().is_empty() {
            return Err(wrong("an empty response"));
        }
        if text.trim_start().starts_with('<') {
            return Err(wrong("a web page"));
        }
        let root = match parse(text) {
            Ok(root) if is_utf8 || root.is_object() => root,
            Err(ParseError::Limit(limit)) => return Err(over_limit(&place, &limit)),
            Err(ParseError::Invalid(message)) if is_utf8 => {
                let fix = "ask the owner of the service to fix its description; download it with `curl` and check it with an OpenAPI validator";
                return Err(Failure::new(Class::Remote, format!("the description at {place} is not valid"), fix).detail(message));
            }
            _ => return Err(wrong("bytes that are not UTF-8 text")),
        };
        let read = Description::check(root, url, bytes);
        read.map_err(|(class, problem, fix)| Failure::new(class, format!("{place} {problem}"), fix))
    }

    fn check(root: Value, url: Url, bytes: &[u8]) -> Result<Description, (Class, String, &'static str)> {
        let scalar = |value: &Value| match value {
            Value::String(text) => Some(redact::scrub(text).chars().take(200).collect::<String>()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        if let Some(version) = root.get("swagger").and_then(scalar) {
            return Err((
                Class::Unsupported,
                format!("serves a Swagger {version} description, but only OpenAPI 3.0 and 3.1 are supported"),
                "ask the owner of the service to publish OpenAPI 3, or convert the description (`npx swagger2openapi`), serve the result on the same host, and name its URL in resource_ids",
            ));
        }
        let Some(openapi) = root.get("openapi").and_then(scalar) else {
            return Err((
                Class::WrongService,
                "did not return an OpenAPI description: the `openapi` field is missing".into(),
                NAME_THE_DESCRIPTION,
            ));
        };
        if !["3.0", "3.1"].iter().any(|version| openapi == *version || openapi.starts_with(&format!("{version}."))) {
            return Err((
                Class::Unsupported,
                format!("serves an OpenAPI {openapi} description, but only 3.0 and 3.1 are supported"),
                "ask the owner of the service to publish OpenAPI 3.0 or 3.1",
            ));
        }
        let info =
            |name: &str| root.get("info").and_then(|info| info.get(name)).and_then(scalar).filter(|text| !text.trim().is_empty());
        let (Some(title), Some(version)) = (info("title"), info("version")) else {
            return Err((
                Class::WrongService,
                "serves a description without info.title and info.version, so it does not identify the service".into(),
                "ask the owner of the service to add info.title and info.version, which OpenAPI requires",
            ));
        };
        if root.get("paths").and_then(Value::as_object).is_none_or(Map::is_empty) {
            return Err((
                Class::Misconfigured,
                "serves a description without paths, so AAM cannot read anything".into(),
                "name the URL of the description that lists the service's paths in resource_ids",
            ));
        }
        Ok(Description { root, url, title, version, openapi, digest: Digest::from_bytes(bytes), bytes: bytes.len() })
    }
}

/// The failure for a description at `place` that is larger than AAM reads.
#[must_use]
pub fn over_limit(place: &str, limit: &str) -> Failure {
    Failure::new(
        Class::Unsupported,
        format!("the description at {place} has {limit}, which is a limit of AAM"),
        "publish a description with only the GET operations that AAM shall read, on the same host, and name its URL in resource_ids",
    )
}

const NAME_THE_DESCRIPTION: &str =
    "name the URL of the OpenAPI 3 description itself in resource_ids, for example https://api.example.com/openapi.json";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(text: &str) -> Result<Description, Failure> {
        Description::read(text.as_bytes(), Url::parse("https://a.example/openapi.json").unwrap())
    }

    #[test]
    fn json_and_yaml_are_read_alike() {
        let yaml = "openapi: 3.0.3\ninfo: {title: T, version: '1'}\nbase: &b {x: 1}\npaths:\n  /a:\n    get:\n      responses:\n        200: {description: no}\n      more: {<<: *b, y: 2}\n";
        let yaml = read(yaml).unwrap();
        assert_eq!(yaml.root["paths"]["/a"]["get"]["responses"]["200"]["description"], "no");
        assert_eq!(yaml.root["paths"]["/a"]["get"]["more"], json!({"x": 1, "y": 2}));
        let text = yaml.root.to_string();
        assert_eq!(read(&text).unwrap().root, yaml.root);
    }

    #[test]
    fn other_content_is_recognised() {
        let class = |text: &str| read(text).map(|_| ()).unwrap_err();
        let page = class("<!doctype html><title>Sign in</title>");
        assert_eq!(page.class, Class::WrongService);
        let other = class(r#"{"error":"not found"}"#);
        assert_eq!(other.class, Class::WrongService);
        let swagger = class(r#"{"swagger":"2.0","info":{"title":"T","version":"1"},"paths":{}}"#);
        assert_eq!(swagger.class, Class::Unsupported);
        assert!(swagger.title.contains("Swagger 2.0"), "{}", swagger.title);
        assert_eq!(class(r#"{"openapi":"4.0.0"}"#).class, Class::Unsupported);
        assert_eq!(class(r#"{"openapi":"3.10.0"}"#).class, Class::Unsupported);
        assert_eq!(class(r#"{"openapi":"3.1.0","info":{"title":"T"},"paths":{"/a":{}}}"#).class, Class::WrongService);
        assert_eq!(class(r#"{"openapi":"3.1.0","info":{"title":"T","version":"1"}}"#).class, Class::Misconfigured);
        let cut = class(r#"{"openapi":"3.1.0","info":{"ti"#);
        assert_eq!(cut.class, Class::Remote);
        assert!(cut.detail.contains("line 1"), "{}", cut.detail);
        let empty = class(" \n");
        assert_eq!(empty.class, Class::WrongService);
        assert!(empty.title.contains("an empty response"), "{}", empty.title);
    }

    #[test]
    fn a_limit_of_aam_is_not_reported_as_damage() {
        let deep = format!(r#"{{"openapi":"3.1.0","x":{}1{}}}"#, "[".repeat(120), "]".repeat(120));
        let failure = read(&deep).unwrap_err();
        assert_eq!(failure.class, Class::Unsupported);
        assert!(failure.title.contains("values nested deeper than 96, which is a limit of AAM"), "{}", failure.title);
    }

    #[test]
    fn another_encoding_does_not_lose_the_description() {
        let text = "openapi: 3.0.3\ninfo: {title: Caf\u{e9}, version: '1'}\npaths: {/a: {get: {}}}\n";
        let latin1: Vec<u8> = text.chars().map(|c| c as u8).collect();
        let url = Url::parse("https://a.example/openapi.yaml").unwrap();
        assert_eq!(Description::read(&latin1, url.clone()).unwrap().title, "Caf\u{fffd}");
        let binary = Description::read(b"\xff\xfe{\x00\x01", url).unwrap_err();
        assert!(binary.title.contains("not UTF-8"), "{}", binary.title);
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "\\PC{0,200}") {
            let _ = read(&text);
        }

        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Description::read(&bytes, Url::parse("https://a.example/").unwrap());
        }
    }
}
