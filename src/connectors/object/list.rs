//! Parses the responses of an object store: ListObjectsV2 and error bodies. Pure, and limited by the size of the body.
//!
//! The XML is parsed into a small tree first, because stores differ in the order of elements, in prefixes and in extra
//! elements. The point at which parsing stops distinguishes a truncated response of a store from a response of another
//! service.

use crate::credentials::redact;
use percent_encoding::percent_decode_str;
use quick_xml::events::Event;

/// Limit on nested elements. Stores send fewer levels.
const MAX_DEPTH: usize = 16;

/// One response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    Listing(ObjectListing),
    Error(StoreError),
}

/// Why a body is not a response of an object store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnreadableBody {
    /// The body is something else, for example HTML, JSON or another XML document. Contains the beginning of the body.
    Foreign(String),
    /// The body is a truncated or malformed response of a store. Contains the message of the parser.
    Broken(String),
}

/// `ListBucketResult`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectListing {
    pub bucket: String,
    pub objects: Vec<Object>,
    /// `CommonPrefixes`, each ending in the delimiter.
    pub prefixes: Vec<String>,
    pub truncated: bool,
    /// The continuation token of the next page.
    pub next: Option<String>,
}

/// The metadata of one object that AAM uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    pub key: String,
    pub size: Option<u64>,
}

/// `Error`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreError {
    pub code: String,
    pub message: String,
    /// The bucket's region, sent with `AuthorizationHeaderMalformed` and some redirects.
    pub region: Option<String>,
    /// The host that serves the bucket, sent with `PermanentRedirect`.
    pub endpoint: Option<String>,
    /// The time of the store in RFC 3339, sent with `RequestTimeTooSkewed`.
    pub server_time: Option<String>,
    pub request_id: Option<String>,
}

/// Parses a body.
///
/// # Errors
/// [`UnreadableBody`] says whether the body is foreign or broken.
pub fn read(body: &[u8]) -> Result<Document, UnreadableBody> {
    let root = match tree(body) {
        Ok(root) => root,
        Err(Stopped { root: Some(name), why }) if known(&name) => return Err(UnreadableBody::Broken(why)),
        Err(Stopped { why, .. }) if body.trim_ascii().is_empty() => {
            return Err(UnreadableBody::Broken(why));
        }
        // An XML declaration that is not followed by anything is a truncated response as well.
        Err(Stopped { root: None, why }) if body.trim_ascii_start().starts_with(b"<?xml") => {
            return Err(UnreadableBody::Broken(why));
        }
        Err(_) => return Err(UnreadableBody::Foreign(opening(body))),
    };
    match root.name.as_str() {
        "ListBucketResult" => listing(&root).map(Document::Listing),
        "Error" => Ok(Document::Error(error(&root))),
        _ => Err(UnreadableBody::Foreign(opening(body))),
    }
}

fn known(name: &str) -> bool {
    matches!(name, "ListBucketResult" | "Error")
}

/// The beginning of a body on one line, by which a person can recognise the response.
fn opening(body: &[u8]) -> String {
    redact::scrub_and_cut(&String::from_utf8_lossy(body), 80)
}

fn listing(root: &Node) -> Result<ObjectListing, UnreadableBody> {
    let url_encoded = root.text("EncodingType").as_deref() == Some("url");
    let plain = |text: String| if url_encoded { decoded(&text) } else { text };
    let broken = |what: &str| UnreadableBody::Broken(format!("ListBucketResult has no {what}"));
    let mut listing = ObjectListing {
        bucket: root.text("Name").ok_or_else(|| broken("Name"))?,
        truncated: root.text("IsTruncated").as_deref() == Some("true"),
        next: root.text("NextContinuationToken").filter(|token| !token.is_empty()),
        ..ObjectListing::default()
    };
    for node in &root.children {
        match node.name.as_str() {
            "Contents" => {
                let key = node.text("Key").map(plain).ok_or_else(|| broken("Key in one of its Contents"))?;
                listing.objects.push(Object { key, size: node.text("Size").and_then(|size| size.trim().parse().ok()) });
            }
            "CommonPrefixes" => listing.prefixes.extend(node.text("Prefix").map(plain)),
            _ => {}
        }
    }
    Ok(listing)
}

fn error(root: &Node) -> StoreError {
    StoreError {
        code: root.text("Code").unwrap_or_default(),
        message: root.text("Message").unwrap_or_default(),
        region: root.text("Region"),
        endpoint: root.text("Endpoint"),
        server_time: root.text("ServerTime"),
        request_id: root.text("RequestId"),
    }
}

/// Decodes a key. `encoding-type=url` is form encoding, in which a space is `+`.
fn decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

#[derive(Debug, Default)]
struct Node {
    name: String,
    text: String,
    children: Vec<Node>,
}

impl Node {
    fn text(&self, name: &str) -> Option<String> {
        self.children.iter().find(|child| child.name == name).map(|child| child.text.clone())
    }
}

struct Stopped {
    /// The root element, if parsing reached it.
    root: Option<String>,
    why: String,
}

/// Parses one document. Entities other than the five predefined ones are refused, so nothing can expand.
fn tree(body: &[u8]) -> Result<Node, Stopped> {
    // A body that ends inside a character is parsed up to that character.
    let text = match std::str::from_utf8(body) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(body.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or_default(),
    };
    let mut reader = quick_xml::Reader::from_str(text);
    let mut open: Vec<Node> = Vec::new();
    loop {
        let root = open.first().map(|node| node.name.clone());
        let stop = |why: String| Err(Stopped { root: root.clone(), why });
        let event = match reader.read_event() {
            Ok(event) => event,
            Err(error) => return stop(error.to_string()),
        };
        let closed = match event {
            Event::Start(_) if open.len() >= MAX_DEPTH => {
                return stop(format!("nested deeper than {MAX_DEPTH}"));
            }
            Event::Start(start) => {
                open.push(named(start.local_name().as_ref()));
                None
            }
            Event::Empty(start) => Some(named(start.local_name().as_ref())),
            Event::End(_) => open.pop(),
            Event::Text(text) => {
                let text = text.xml10_content();
                match open.last_mut() {
                    Some(node) => node.text.push_str(&text),
                    None if text.trim().is_empty() => {}
                    None => return stop("text outside the document".to_string()),
                }
                None
            }
            Event::CData(text) => {
                if let Some(node) = open.last_mut() {
                    node.text.push_str(&text.xml10_content());
                }
                None
            }
            Event::GeneralRef(reference) => {
                let name = reference.xml10_content().into_owned();
                let text = reference.resolve_char_ref().ok().flatten().map(String::from);
                let text = text.or_else(|| quick_xml::escape::resolve_predefined_entity(&name).map(str::to_string));
                match (open.last_mut(), text) {
                    (Some(node), Some(text)) => node.text.push_str(&text),
                    _ => return stop(format!("unknown entity &{name};")),
                }
                None
            }
            Event::Eof => return stop("the document ends before it is complete".to_string()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => None,
        };
        if let Some(node) = closed {
            match open.last_mut() {
                Some(parent) => parent.children.push(node),
                None => return Ok(node),
            }
        }
    }
}

fn named(name: &str) -> Node {
    Node { name: name.to_string(), ..Node::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LISTING: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>acme</Name><Prefix></Prefix>
<CommonPrefixes><Prefix>b%2Bc%2F</Prefix></CommonPrefixes>
<Contents><Key>a+b%26.txt</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&#34;x&quot;</ETag><Size>7</Size><Owner/></Contents>
<CommonPrefixes><Prefix>r%C3%A4ume/</Prefix></CommonPrefixes>
<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>1/a==</NextContinuationToken></ListBucketResult>"#;

    fn of(body: &str) -> ObjectListing {
        match read(body.as_bytes()) {
            Ok(Document::Listing(listing)) => listing,
            other => panic!("no listing: {other:?}"),
        }
    }

    #[test]
    fn a_listing_is_read_in_any_order_of_its_parts() {
        let listing = of(LISTING);
        assert_eq!(listing.bucket, "acme");
        assert_eq!(listing.objects, vec![Object { key: "a b&.txt".to_string(), size: Some(7) }]);
        assert_eq!(listing.prefixes, vec!["b+c/".to_string(), "räume/".to_string()]);
        assert_eq!((listing.truncated, listing.next.as_deref()), (true, Some("1/a==")));
    }

    #[test]
    fn without_encoding_type_keys_are_plain() {
        let plain = of(
            "<s:ListBucketResult xmlns:s='x'><s:Name>acme</s:Name><s:Contents><s:Key>a+b%20&amp;&lt;<![CDATA[<c>]]></s:Key></s:Contents></s:ListBucketResult>",
        );
        assert_eq!(plain.objects.first().map(|object| object.key.as_str()), Some("a+b%20&<<c>"));
        assert_eq!((plain.truncated, plain.next), (false, None));
    }

    #[test]
    fn an_error_gives_its_code_and_what_helps() {
        let body = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>m</Message><Region>eu-west-1</Region><RequestId>r</RequestId></Error>";
        let want = StoreError {
            code: "AuthorizationHeaderMalformed".to_string(),
            message: "m".to_string(),
            region: Some("eu-west-1".to_string()),
            request_id: Some("r".to_string()),
            ..StoreError::default()
        };
        assert_eq!(read(body.as_bytes()), Ok(Document::Error(want)));
    }

    #[test]
    fn foreign_and_broken_are_told_apart() {
        for foreign in ["<!doctype html><html><body>hi</body></html>", "{\"ok\":true}", "hello", "<rss/>", "<html><p>open"] {
            assert!(matches!(read(foreign.as_bytes()), Err(UnreadableBody::Foreign(_))), "{foreign}");
        }
        let bomb = "<!DOCTYPE x [<!ENTITY a 'aaaa'>]><Error><Code>&a;</Code></Error>";
        for broken in [
            "",
            " \n",
            "<?xml version='1.0'?>",
            "<ListBucketResult>",
            "<Error><Code>x</Error>",
            "<ListBucketResult></ListBucketResult>",
            bomb,
        ] {
            assert!(matches!(read(broken.as_bytes()), Err(UnreadableBody::Broken(_))), "{broken}");
        }
        let deep = format!("<Error>{}", "<a>".repeat(100_000));
        assert!(matches!(read(deep.as_bytes()), Err(UnreadableBody::Broken(why)) if why.contains("deeper")));
    }

    proptest! {
        /// A truncated response is never mistaken for a shorter listing.
        #[test]
        fn no_cut_of_a_listing_is_a_listing(at in 0..LISTING.len()) {
            let cut = LISTING.as_bytes().get(..at).unwrap_or_default();
            prop_assert!(read(cut).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
