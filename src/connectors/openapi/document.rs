//! Turns response bytes into a description, or reports what they are instead.

use super::address::host_of;
use super::parse::parse;
use crate::credentials::redact;
use crate::model::{Class, Digest, Failure};
use serde_json::{Map, Value};
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

/// Why bytes are not a usable description, and whether another candidate URL may return one.
#[derive(Clone, Debug, PartialEq)]
pub struct Unusable {
    pub failure: Failure,
    /// Whether to request the next candidate URL, because these bytes are not an API description at all.
    pub try_next: bool,
}

impl Description {
    /// Reads the bytes that `url` returned.
    ///
    /// # Errors
    /// `WrongService` for a web page or other JSON; `Unsupported` for Swagger 2.0; `Remote` for truncated text.
    pub fn read(bytes: &[u8], url: Url) -> Result<Description, Unusable> {
        let host = host_of(&url);
        let path = url.path().to_string();
        let unusable =
            |try_next, class, title: String, fix: &str| Unusable { failure: Failure::new(class, title, fix), try_next };
        let text = std::str::from_utf8(bytes).map_err(|_| {
            unusable(
                true,
                Class::WrongService,
                format!("{host}{path} returned bytes that are not UTF-8 text"),
                NAME_THE_DESCRIPTION,
            )
        })?;
        let text = text.trim_start_matches('\u{feff}');
        if text.trim_start().starts_with('<') {
            return Err(unusable(
                true,
                Class::WrongService,
                format!("{host}{path} returned a web page, not an OpenAPI description"),
                NAME_THE_DESCRIPTION,
            ));
        }
        let root = parse(text).map_err(|message| {
            let mut found = unusable(
                false,
                Class::Remote,
                format!("the description at {host}{path} is not valid"),
                "ask the owner of the service to fix its description; download it with `curl` and check it with an OpenAPI validator",
            );
            found.failure.detail = message;
            found
        })?;
        let read = Description::check(root, url, bytes);
        read.map_err(|(try_next, class, problem, fix)| unusable(try_next, class, format!("{host}{path} {problem}"), fix))
    }

    fn check(root: Value, url: Url, bytes: &[u8]) -> Result<Description, (bool, Class, String, &'static str)> {
        let scalar = |value: &Value| match value {
            Value::String(text) => Some(redact::scrub_and_cut(text, 200)),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        if let Some(version) = root.get("swagger").and_then(scalar) {
            return Err((
                false,
                Class::Unsupported,
                format!("serves a Swagger {version} description, but only OpenAPI 3.0 and 3.1 are supported"),
                "ask the owner of the service to publish OpenAPI 3, or convert the description (`npx swagger2openapi`), serve the result on the same host, and name its URL in resource_ids",
            ));
        }
        let Some(openapi) = root.get("openapi").and_then(scalar) else {
            return Err((
                true,
                Class::WrongService,
                "did not return an OpenAPI description: the `openapi` field is missing".into(),
                NAME_THE_DESCRIPTION,
            ));
        };
        if !openapi.starts_with("3.0") && !openapi.starts_with("3.1") {
            return Err((
                false,
                Class::Unsupported,
                format!("serves an OpenAPI {openapi} description, but only 3.0 and 3.1 are supported"),
                "ask the owner of the service to publish OpenAPI 3.0 or 3.1",
            ));
        }
        let info =
            |name: &str| root.get("info").and_then(|info| info.get(name)).and_then(scalar).filter(|text| !text.trim().is_empty());
        let (Some(title), Some(version)) = (info("title"), info("version")) else {
            return Err((
                false,
                Class::WrongService,
                "serves a description without info.title and info.version, so it does not identify the service".into(),
                "ask the owner of the service to add info.title and info.version, which OpenAPI requires",
            ));
        };
        if root.get("paths").and_then(Value::as_object).is_none_or(Map::is_empty) {
            return Err((
                false,
                Class::Misconfigured,
                "serves a description without paths, so AAM cannot read anything".into(),
                "name the URL of the description that lists the service's paths in resource_ids",
            ));
        }
        Ok(Description { root, url, title, version, openapi, digest: Digest::from_bytes(bytes), bytes: bytes.len() })
    }
}

const NAME_THE_DESCRIPTION: &str =
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
        assert_eq!((page.failure.class, page.try_next), (Class::WrongService, true));
        let other = class(r#"{"error":"not found"}"#);
        assert_eq!((other.failure.class, other.try_next), (Class::WrongService, true));
        let swagger = class(r#"{"swagger":"2.0","info":{"title":"T","version":"1"},"paths":{}}"#);
        assert_eq!((swagger.failure.class, swagger.try_next), (Class::Unsupported, false));
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
