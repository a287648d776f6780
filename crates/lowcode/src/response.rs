//! A response as `requests.Response` presents it: content without its transport encoding, text, JSON and links.

use super::bounds::Bounds;
use super::error::Failed;
use super::host::HostResponse;
use super::value::{Dict, Value};
use super::{inflate, json};
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

/// A response. It is cheap to clone, and its JSON is parsed once, on first use.
#[derive(Clone, Debug)]
pub struct Response(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    response: Arc<HostResponse>,
    /// The decoded body, if the body has a `Content-Encoding`.
    plain: Option<Vec<u8>>,
    json: OnceLock<Option<Value>>,
    depth: usize,
}

impl Response {
    /// Creates a response from what the host returned, and undoes gzip or deflate.
    ///
    /// # Errors
    /// Fails if the body is larger than `bounds.body_bytes`, before or after decompression.
    pub fn new(response: Arc<HostResponse>, bounds: &Bounds) -> Result<Response, Failed> {
        if response.body.len() > bounds.body_bytes {
            return Err(Failed::bound("bytes of a body", bounds.body_bytes));
        }
        let encoding = response.header("content-encoding").unwrap_or_default().to_ascii_lowercase();
        // A host that has already decompressed the body may leave the header in place, so only a body that looks
        // compressed is decompressed.
        let plain = match encoding.trim() {
            "gzip" | "x-gzip" if inflate::is_gzip(&response.body) => Some(inflate::gunzip(&response.body, bounds.body_bytes)?),
            "deflate" if !response.body.is_empty() => inflate::deflate(&response.body, bounds.body_bytes)?,
            _ => None,
        };
        Ok(Response(Arc::new(Inner { response, plain, json: OnceLock::new(), depth: bounds.depth })))
    }

    /// Returns the response as the host returned it.
    #[must_use]
    pub fn received(&self) -> Arc<HostResponse> {
        Arc::clone(&self.0.response)
    }

    #[must_use]
    pub fn status(&self) -> u16 {
        self.0.response.status
    }

    /// Implements Python's `bool(response)`: true if the status is below 400.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.status() < 400
    }

    /// Returns the URL that sent the response.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.0.response.url
    }

    /// Returns the headers as they were received.
    #[must_use]
    pub fn headers(&self) -> &[(String, String)] {
        &self.0.response.headers
    }

    /// Returns a header by name, ignoring case. Repeated headers are joined by `", "`.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut values = self.headers().iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        let first = values.next()?;
        Some(values.fold(Cow::Borrowed(first.as_str()), |joined, value| Cow::Owned(format!("{joined}, {value}"))))
    }

    /// Returns `dict(response.headers)`, for templates.
    #[must_use]
    pub fn headers_value(&self) -> Value {
        let mut dict = Dict::with_capacity(self.headers().len());
        for (name, _) in self.headers() {
            if !dict.keys().any(|key| key.eq_ignore_ascii_case(name)) {
                let value = self.header(name).unwrap_or_default();
                dict.insert(name.as_str().into(), Value::str(&*value));
            }
        }
        Value::Dict(dict)
    }

    /// Returns the body.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        self.0.plain.as_deref().unwrap_or(&self.0.response.body)
    }

    /// Returns the body as text. It is read as Latin-1 if the server says so, and as UTF-8 otherwise, where invalid
    /// bytes become U+FFFD.
    #[must_use]
    pub fn text(&self) -> String {
        let kind = self.header("content-type").unwrap_or_default().to_ascii_lowercase();
        if kind.contains("charset=iso-8859-1") || kind.contains("charset=latin-1") {
            return self.content().iter().map(|byte| char::from(*byte)).collect();
        }
        String::from_utf8_lossy(self.content()).into_owned()
    }

    /// Implements `response.json()`. Returns `None` if the body is not valid JSON.
    #[must_use]
    pub fn json(&self) -> Option<&Value> {
        let read = || {
            let bytes = self.content().strip_prefix(b"\xef\xbb\xbf").unwrap_or(self.content());
            json::parse_orjson(std::str::from_utf8(bytes).ok()?, self.0.depth).ok()
        };
        self.0.json.get_or_init(read).as_ref()
    }

    /// Implements `response.links`: the entries of the Link header by `rel`, or by URL if they have no `rel`.
    #[must_use]
    pub fn links(&self) -> Value {
        let mut links = Dict::default();
        for link in link_header(&self.header("link").unwrap_or_default()) {
            let key = ["rel", "url"].iter().find_map(|key| link.get(*key).and_then(Value::as_str).filter(|it| !it.is_empty()));
            if let Some(key) = key.map(Arc::<str>::from) {
                links.insert(key, Value::Dict(link));
            }
        }
        Value::Dict(links)
    }
}

/// Implements `parse_header_links` of the package `requests`.
fn link_header(header: &str) -> Vec<Dict> {
    let quotes: &[char] = &[' ', '\'', '"'];
    let header = header.trim_matches(quotes);
    if header.is_empty() {
        return Vec::new();
    }
    split_links(header).into_iter().map(|part| link(part, quotes)).collect()
}

/// Implements `re.split(", *<", header)`.
fn split_links(header: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut from) = (0, 0);
    while let Some(comma) = header.get(from..).and_then(|rest| rest.find(',')).map(|at| from + at) {
        let tail = header.get(comma + 1..).unwrap_or_default();
        let blanks = tail.len() - tail.trim_start_matches(' ').len();
        from = comma + 1;
        if tail.get(blanks..).is_some_and(|it| it.starts_with('<')) {
            parts.push(header.get(start..comma).unwrap_or_default());
            start = comma + 1 + blanks + 1;
            from = start;
        }
    }
    parts.push(header.get(start..).unwrap_or_default());
    parts
}

fn link(part: &str, quotes: &[char]) -> Dict {
    let (url, params) = part.split_once(';').unwrap_or((part, ""));
    let mut link = Dict::default();
    link.insert("url".into(), Value::str(url.trim_matches(&['<', '>', ' ', '\'', '"'][..])));
    for param in params.split(';') {
        // An entry with more than one `=` ends the list, because Python's tuple unpacking fails at this point.
        let mut pieces = param.split('=');
        let (Some(key), Some(value), None) = (pieces.next(), pieces.next(), pieces.next()) else { break };
        link.insert(key.trim_matches(quotes).into(), Value::str(value.trim_matches(quotes)));
    }
    link
}
