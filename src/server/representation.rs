//! The form in which a response is sent: compressed or not, in full or as 304.
//!
//! A client that kept an earlier response sends its `ETag` as `If-None-Match` and gets 304 without a body if the response
//! would be the same (RFC 9110, section 13.1.2). The tags are weak: two responses with the same tag have the same content,
//! except for the time at which they were made and the number of the last entry of the ledger. Two pages with the same tag
//! may also differ in how long ago something was ("3m ago"), which the script of the page keeps current.

use super::app::App;
use aho_corasick::AhoCorasick;
use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::BodyExt;
use ring::digest;
use std::io::Write;
use std::ops::Range;
use std::sync::{Arc, LazyLock, OnceLock};

/// The size from which a body is compressed. Smaller ones fit into one packet anyway.
const MIN_COMPRESSED_BYTES: usize = 1024;
/// The size up to which a body is compressed at once. Larger ones are compressed on the blocking pool.
const MAX_INLINE_BYTES: usize = 64 << 10;

/// The beginnings of the members of an object that do not count as content. In JSON text, they cannot occur within a
/// string, because its quotes are escaped.
const VOLATILE: [&str; 2] = ["\"as_of\":", "\"registry_seq\":"];

static VOLATILE_MEMBERS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| AhoCorasick::new(VOLATILE).ok());

/// The beginnings of the parts of a page that do not count as content: the version for the script, the field for another time,
/// the time of the page, and ages. Texts of others cannot contain them, because `<` and `"` are escaped.
const VOLATILE_HTML: [&str; 4] =
    [" data-version=\"", "type=\"datetime-local\" name=\"at\" value=\"", "<time class=\"as-of\"", "<time class=\"age\""];
/// The last one of them. The attributes of an age are content: they contain the time that the age is counted from.
const AGE: usize = 3;

static VOLATILE_PARTS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| AhoCorasick::new(VOLATILE_HTML).ok());

/// What the client accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Negotiation {
    gzip: bool,
    /// True for GET and HEAD, whose responses have a tag.
    tagged: bool,
    /// The tags of the responses that the client has, or `*`.
    known_tags: Vec<String>,
}

impl Negotiation {
    /// Reads `Accept-Encoding` and `If-None-Match`.
    #[must_use]
    pub fn new(method: &Method, headers: &HeaderMap) -> Negotiation {
        let tagged = matches!(*method, Method::GET | Method::HEAD);
        let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let tags = values.flat_map(|value| value.split(',')).map(|tag| tag.trim().trim_start_matches("W/").to_string());
        Negotiation { gzip: accepts_gzip(headers), tagged, known_tags: if tagged { tags.collect() } else { Vec::new() } }
    }

    fn knows(&self, tag: &str) -> bool {
        let opaque = tag.trim_start_matches("W/");
        self.known_tags.iter().any(|known| known == opaque || known == "*")
    }
}

/// Whether the client accepts gzip at least as gladly as an uncompressed body (RFC 9110, section 12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut any, mut identity) = (None, None, None);
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    for item in values.flat_map(|value| value.split(',')) {
        let mut parts = item.split(';');
        let coding = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.trim().strip_prefix(['q', 'Q'])?.trim_start().strip_prefix('='));
        let weight =
            weight.map_or(Some(1.0), |text| text.trim().parse::<f32>().ok()).filter(|weight| (0.0..=1.0).contains(weight));
        let Some(weight) = weight else { continue };
        match coding.as_str() {
            "gzip" | "x-gzip" => gzip = Some(weight),
            "*" => any = Some(weight),
            "identity" => identity = Some(weight),
            _ => {}
        }
    }
    let gzip = gzip.or(any).unwrap_or(0.0);
    gzip > 0.0 && gzip >= identity.unwrap_or(0.0)
}

/// A body with the forms that are made from it at most once.
#[derive(Debug)]
pub struct Rendered {
    body: Bytes,
    tag: OnceLock<String>,
    compressed: OnceLock<Option<Bytes>>,
}

impl Rendered {
    /// Wraps a body.
    #[must_use]
    pub fn new(body: Bytes) -> Rendered {
        Rendered { body, tag: OnceLock::new(), compressed: OnceLock::new() }
    }

    /// The body as it was rendered.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    fn tag(&self, is_html: bool) -> &str {
        self.tag.get_or_init(|| tag(&self.body, is_html))
    }

    fn compressed(&self) -> Option<Bytes> {
        self.compressed.get_or_init(|| gzip(&self.body).ok().map(Bytes::from)).clone()
    }
}

/// Adds the tag to the response, replaces it by 304 if the client has it already, and compresses it. Bodies that are
/// produced while they are sent are left as they are.
pub async fn represent(app: &Arc<App>, negotiation: &Negotiation, response: Response) -> Response {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_json = kind.starts_with("application/") && kind.contains("json") && !kind.contains("json-seq");
    let is_html = kind.starts_with("text/html");
    let is_text = is_json || is_html || kind.starts_with("application/openmetrics-text");
    if !is_text || response.body().size_hint().exact().is_none() || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let rendered = match parts.extensions.remove::<Arc<Rendered>>() {
        Some(rendered) => rendered,
        None => match body.collect().await {
            Ok(body) => Arc::new(Rendered::new(body.to_bytes())),
            Err(_) => return Response::from_parts(parts, Body::empty()),
        },
    };
    let varies = rendered.body.len() >= MIN_COMPRESSED_BYTES;
    if varies {
        parts.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    if negotiation.tagged && (is_json || is_html) && parts.status == StatusCode::OK {
        if let Ok(value) = HeaderValue::from_str(rendered.tag(is_html)) {
            parts.headers.insert(header::ETAG, value);
        }
        if negotiation.knows(rendered.tag(is_html)) {
            parts.status = StatusCode::NOT_MODIFIED;
            parts.headers.remove(header::CONTENT_TYPE);
            return Response::from_parts(parts, Body::empty());
        }
    }
    let compressed = if varies && negotiation.gzip { compress(app, &rendered).await } else { None };
    match compressed {
        Some(compressed) => {
            parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            Response::from_parts(parts, Body::from(compressed))
        }
        None => Response::from_parts(parts, Body::from(rendered.body.clone())),
    }
}

async fn compress(app: &Arc<App>, rendered: &Arc<Rendered>) -> Option<Bytes> {
    if rendered.body.len() <= MAX_INLINE_BYTES || rendered.compressed.get().is_some() {
        return rendered.compressed();
    }
    let rendered = Arc::clone(rendered);
    app.blocking(move |_| Ok(rendered.compressed())).await.ok().flatten()
}

/// Compresses `bytes`.
///
/// # Errors
/// Writing to memory does not fail.
pub fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Returns the weak tag of a JSON body or of a page. The values of [`VOLATILE`] members and [`VOLATILE_HTML`] parts do not
/// count.
fn tag(body: &[u8], is_html: bool) -> String {
    let volatile = if is_html { &VOLATILE_PARTS } else { &VOLATILE_MEMBERS };
    let mut context = digest::Context::new(&digest::SHA256);
    let mut from = 0;
    for found in volatile.iter().flat_map(|volatile| volatile.find_iter(body)) {
        if found.start() < from {
            continue;
        }
        let rest = body.get(found.end()..).unwrap_or_default();
        let skipped = match is_html {
            true => html_span(found.pattern().as_usize(), rest),
            false => 0..scalar_len(rest),
        };
        context.update(body.get(from..found.end() + skipped.start).unwrap_or_default());
        from = found.end() + skipped.end;
    }
    context.update(body.get(from..).unwrap_or_default());
    let digest = context.finish();
    let half = digest.as_ref().get(..16).unwrap_or_default();
    format!("W/\"{}\"", BASE64URL_NOPAD.encode(half))
}

/// Returns the bytes of `rest` that do not count after the beginning with this index in [`VOLATILE_HTML`].
fn html_span(beginning: usize, rest: &[u8]) -> Range<usize> {
    let find = |from: usize, end: u8| {
        let after = rest.get(from..).unwrap_or_default();
        from + after.iter().position(|byte| *byte == end).unwrap_or(after.len())
    };
    match beginning {
        0 | 1 => 0..find(0, b'"'),
        // The text of an element ends at the next tag.
        AGE => find(0, b'>')..find(find(0, b'>'), b'<'),
        _ => 0..find(0, b'<'),
    }
}

/// Returns the length of the JSON number or of the JSON string without escapes at the beginning of `text`, or 0.
fn scalar_len(text: &[u8]) -> usize {
    match text.first() {
        Some(b'"') => text.iter().skip(1).position(|byte| *byte == b'"').map_or(0, |end| end + 2),
        Some(b'0'..=b'9') => text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len()),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;
    use crate::page::parts;
    use proptest::prelude::*;

    fn accepts(values: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::ACCEPT_ENCODING, HeaderValue::from_str(value).expect("a value"));
        }
        accepts_gzip(&headers)
    }

    #[test]
    fn accept_encoding_is_read_with_its_weights() {
        for good in [
            &["gzip"][..],
            &["GZIP"],
            &["x-gzip"],
            &["deflate, gzip;q=0.5"],
            &["*"],
            &["br", "gzip;q=1.0"],
            &["identity;q=0, gzip;q=0.001"],
            &["gzip ; q = 1"],
        ] {
            assert!(accepts(good), "{good:?}");
        }
        for bad in [
            &[][..],
            &[""],
            &["identity"],
            &["br"],
            &["gzip;q=0"],
            &["*;q=0"],
            &["*, gzip;q=0"],
            &["gzip;q=0.5, identity"],
            &["gzip;q=x"],
        ] {
            assert!(!accepts(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_known_tag_is_found_in_a_list_whether_weak_or_strong() {
        let knows = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_str(value).expect("a value"));
            Negotiation::new(&Method::GET, &headers).knows("W/\"a\"")
        };
        assert!(["W/\"a\"", "\"a\"", "*", "\"b\", W/\"a\""].iter().all(|value| knows(value)));
        assert!(!["\"b\"", "a", "W/\"aa\"", ""].iter().any(|value| knows(value)));
    }

    #[test]
    fn a_tag_ignores_when_a_body_was_made_and_nothing_else() {
        let one = br#"{"as_of":"2026-11-08T18:00:00.000Z","registry_seq":7,"a":1}"#;
        let later = br#"{"as_of":"2026-11-08T18:00:09.000Z","registry_seq":123,"a":1}"#;
        let tag = |body: &[u8]| super::tag(body, false);
        assert_eq!(tag(one), tag(later));
        for other in [
            &br#"{"as_of":"2026-11-08T18:00:00.000Z","registry_seq":7,"a":2}"#[..],
            br#"{"as_of":"2026-11-08T18:00:00.000Z","a":1}"#,
            br#"{"as_of":null,"registry_seq":7,"a":1}"#,
        ] {
            assert_ne!(tag(one), tag(other));
        }
        // The same text within a string is content.
        let quoted = |time: &str| serde_json::json!({ "a": format!("\"as_of\":\"{time}\"") }).to_string();
        assert_ne!(tag(quoted("1").as_bytes()), tag(quoted("2").as_bytes()));
    }

    /// A page with an age of something that happened at `at`, as of `now`.
    fn page(version: &str, at: i64, now: i64, text: &str) -> String {
        let (at, now) = (Timestamp(at), Timestamp(now));
        maud::html! {
            p { "As of " (parts::as_of(now)) span #contact data-live="/ui/live" data-version=(version) {} }
            input type="datetime-local" name="at" value=(now.rfc3339()) required;
            ul { li { "Checked " (parts::age(at, now)) " " (text) } li { (parts::time(at)) } }
        }
        .into_string()
    }

    #[test]
    fn the_tag_of_a_page_ignores_its_time_its_ages_and_its_version_and_nothing_else() {
        let start = 1_794_160_800_000;
        let tag = |page: &str| super::tag(page.as_bytes(), true);
        let first = page("a", start, start + 5000, "fine");
        let later = page("bbbb", start, start + 3_600_000, "fine");
        assert!(first.contains("5s ago") && later.contains("60m ago"), "{first}\n{later}");
        assert_eq!(tag(&first), tag(&later));
        for other in [
            page("a", start, start + 5000, "Fine"),
            page("a", start + 1000, start + 6000, "fine"),
            first.replace("Checked", "Seen"),
            first.replace("</ul>", "</ul>!"),
        ] {
            assert_ne!(tag(&first), tag(&other), "{other}");
        }
        // The same texts of others are content.
        let quoted = |age: &str| page("a", start, start, &format!("<time class=\"age\">{age}</time> data-version=\"{age}\""));
        assert_ne!(tag(&quoted("1s ago")), tag(&quoted("2s ago")));
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_tag_and_survive_compression(body in proptest::collection::vec(any::<u8>(), 0..2000), is_html: bool) {
            prop_assert!(tag(&body, is_html).len() == 26);
            let mut back = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*gzip(&body).expect("compressed")), &mut back).expect("read");
            prop_assert_eq!(back, body);
        }
    }
}
