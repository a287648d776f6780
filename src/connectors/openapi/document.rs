//! Bytes -> one description, or what they are instead.

use super::address::host_of;
use super::parse::parse;
use crate::credentials::redact;
use crate::model::{Class, Digest, Failure};
use serde_json::{Map, Value};
use url::Url;

/// A description longer than this is not read.
pub const MAX_BYTES: u64 = 8 << 20;
/// What the top of a description says.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    pub root: Value,
    /// Where it was found, after redirects.
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

/// Why bytes are no usable description, and whether another candidate address may hold one.
#[derive(Clone, Debug, PartialEq)]
pub struct Unusable {
    pub failure: Failure,
    /// The bytes are no API description at all, so the next candidate may be one.
    pub look_on: bool,
}

impl Description {
    /// Reads the bytes that `url` answered.
    ///
    /// # Errors
    /// `WrongService` for a page or other JSON, `Unsupported` for Swagger 2.0, `Remote` for what is cut.
    pub fn read(bytes: &[u8], url: Url) -> Result<Description, Unusable> {
        let host = host_of(&url);
        let path = url.path().to_string();
        let unusable = |look_on, class, title: String, fix: &str| Unusable { failure: Failure::new(class, title, fix), look_on };
        let text = std::str::from_utf8(bytes).map_err(|_| {
            unusable(true, Class::WrongService, format!("{host}{path} answers bytes that are no text"), POINT_AT_IT)
        })?;
        let text = text.trim_start_matches('\u{feff}');
        if text.trim_start().starts_with('<') {
            return Err(unusable(
                true,
                Class::WrongService,
                format!("{host}{path} answers a web page, not an OpenAPI description"),
                POINT_AT_IT,
            ));
        }
        let root = parse(text).map_err(|words| {
            let mut found = unusable(
                false,
                Class::Remote,
                format!("the description at {host}{path} cannot be read"),
                "have the service mend its description; `curl` it and check it with any OpenAPI validator",
            );
            found.failure.detail = words;
            found
        })?;
        let read = Description::check(root, url, bytes);
        read.map_err(|(look_on, class, words, fix)| unusable(look_on, class, format!("{host}{path} {words}"), fix))
    }

    fn check(root: Value, url: Url, bytes: &[u8]) -> Result<Description, (bool, Class, String, &'static str)> {
        let scalar = |value: &Value| match value {
            Value::String(text) => Some(redact::scrub(text).chars().take(200).collect::<String>()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        if let Some(version) = root.get("swagger").and_then(scalar) {
            return Err((
                false,
                Class::Unsupported,
                format!("serves a Swagger {version} description, and only OpenAPI 3.0 and 3.1 are read"),
                "let the service publish OpenAPI 3, or convert the description (`npx swagger2openapi`) and name the URL where the result is served on the same host",
            ));
        }
        let Some(openapi) = root.get("openapi").and_then(scalar) else {
            return Err((
                true,
                Class::WrongService,
                "answers, but not with an OpenAPI description: it has no `openapi` field".into(),
                POINT_AT_IT,
            ));
        };
        if !openapi.starts_with("3.0") && !openapi.starts_with("3.1") {
            return Err((
                false,
                Class::Unsupported,
                format!("serves an OpenAPI {openapi} description, and only 3.0 and 3.1 are read"),
                "let the service publish OpenAPI 3.0 or 3.1",
            ));
        }
        let info =
            |name: &str| root.get("info").and_then(|info| info.get(name)).and_then(scalar).filter(|text| !text.trim().is_empty());
        let (Some(title), Some(version)) = (info("title"), info("version")) else {
            return Err((
                false,
                Class::WrongService,
                "serves a description without info.title and info.version, so nothing says which service it is".into(),
                "have the service fill in info.title and info.version, which OpenAPI requires",
            ));
        };
        if root.get("paths").and_then(Value::as_object).is_none_or(Map::is_empty) {
            return Err((
                false,
                Class::Misconfigured,
                "serves a description without paths, so there is nothing to read".into(),
                "name the URL of the description that lists the service's paths",
            ));
        }
        Ok(Description { root, url, title, version, openapi, digest: Digest::from_bytes(bytes), bytes: bytes.len() })
    }
}

const POINT_AT_IT: &str =
    "name the URL of the OpenAPI 3 description itself in resource_ids, for example https://api.example.com/openapi.json";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(text: &str) -> Result<Description, Unusable> {
        Description::read(text.as_bytes(), Url::parse("https://a.example/openapi.json").unwrap())
    }

    #[test]
    fn json_and_yaml_say_the_same() {
        let yaml = "openapi: 3.0.3\ninfo: {title: T, version: '1'}\nbase: &b {x: 1}\npaths:\n  /a:\n    get:\n      responses:\n        200: {description: no}\n      more: {<<: *b, y: 2}\n";
        let yaml = read(yaml).unwrap();
        assert_eq!(yaml.root["paths"]["/a"]["get"]["responses"]["200"]["description"], "no");
        assert_eq!(yaml.root["paths"]["/a"]["get"]["more"], json!({"x": 1, "y": 2}));
        let text = yaml.root.to_string();
        assert_eq!(read(&text).unwrap().root, yaml.root);
    }

    #[test]
    fn what_is_no_description_is_told_apart() {
        let class = |text: &str| read(text).map(|_| ()).unwrap_err();
        let page = class("<!doctype html><title>Sign in</title>");
        assert_eq!((page.failure.class, page.look_on), (Class::WrongService, true));
        let other = class(r#"{"error":"not found"}"#);
        assert_eq!((other.failure.class, other.look_on), (Class::WrongService, true));
        let swagger = class(r#"{"swagger":"2.0","info":{"title":"T","version":"1"},"paths":{}}"#);
        assert_eq!((swagger.failure.class, swagger.look_on), (Class::Unsupported, false));
        assert!(swagger.failure.title.contains("Swagger 2.0"), "{}", swagger.failure.title);
        assert_eq!(class(r#"{"openapi":"4.0.0"}"#).failure.class, Class::Unsupported);
        assert_eq!(class(r#"{"openapi":"3.1.0","info":{"title":"T"},"paths":{"/a":{}}}"#).failure.class, Class::WrongService);
        assert_eq!(class(r#"{"openapi":"3.1.0","info":{"title":"T","version":"1"}}"#).failure.class, Class::Misconfigured);
        let cut = class(r#"{"openapi":"3.1.0","info":{"ti"#);
        assert_eq!(cut.failure.class, Class::Remote);
        assert!(cut.failure.detail.contains("line 1"), "{}", cut.failure.detail);
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
