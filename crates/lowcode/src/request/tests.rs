//! Requests, compared with what airbyte-cdk 7.39.1 and requests 2.34.2 produced from the same inputs (`cdk.json`).

use super::headers::set;
use super::json::{Style, dumps};
use super::merge::{Options, combine};
use super::*;
use crate::bounds::Bounds;
use crate::host::{HostResponse, header};
use crate::json::parse;
use crate::response::Response;
use crate::url::{Prepared, prepare, urljoin};
use proptest::prelude::*;
use std::sync::Arc;

fn rows(name: &str) -> Vec<Vec<Value>> {
    let table = parse(include_str!("cdk.json"), 50).unwrap();
    let rows = table.get(name).and_then(Value::as_list).unwrap().to_vec();
    assert!(!rows.is_empty());
    rows.into_iter().map(|row| row.as_list().unwrap().to_vec()).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn dict(value: &Value) -> &Dict {
    value.as_dict().unwrap()
}

/// Collects all rows that differ, so that one run reports them all.
fn differing(name: &str, ours: impl Fn(&[Value]) -> Option<String>) {
    let wrong: Vec<String> = rows(name).iter().filter_map(|row| ours(row)).collect();
    assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
}

#[test]
fn joins_as_urllib() {
    differing("join", |row| {
        let ours = urljoin(text(&row[0]), text(&row[1])).unwrap();
        (ours != text(&row[2])).then(|| format!("{:?} + {:?}: {ours:?}, not {:?}", row[0], row[1], row[2]))
    });
}

#[test]
fn prepares_as_requests() {
    differing("prepare", |row| {
        let ours = match prepare(text(&row[0]), &encode_params(dict(&row[1]))) {
            Ok(Prepared::Url(url) | Prepared::NoAdapter(url)) => url,
            Err(failed) => failed.class.to_owned(),
        };
        let theirs = row[2].get("ok").or(row[2].get("err")).unwrap();
        (ours != text(theirs)).then(|| format!("{:?}: {ours:?}, not {theirs:?}", row[0]))
    });
    let failed = prepare("/roles", "").unwrap_err();
    let message = "Invalid URL '/roles': No scheme supplied. Perhaps you meant https:///roles?";
    assert_eq!((failed.class, failed.message.as_str()), ("MissingSchema", message));
    assert!(matches!(prepare("ftp://x/a", "").unwrap(), Prepared::NoAdapter(_)));
}

#[test]
fn encodes_queries_and_forms_as_requests() {
    differing("params", |row| {
        let Prepared::Url(ours) = prepare("https://x.com/", &encode_params(dict(&row[0]))).unwrap() else { panic!() };
        (ours != text(&row[1])).then(|| format!("{}: {ours:?}, not {:?}", row[0].repr(), row[1]))
    });
    differing("form", |row| {
        let mut headers = Vec::new();
        let body = body(&Options::Map(dict(&row[0]).clone()), &Dict::default(), &mut headers).unwrap();
        let ours = Value::List(vec![
            body.map_or(Value::None, |it| String::from_utf8(it).unwrap().into()),
            header(&headers, "content-type").map_or(Value::None, Value::from),
        ]);
        (ours != row[1]).then(|| format!("{}: {}, not {}", row[0].repr(), ours.repr(), row[1].repr()))
    });
}

#[test]
fn writes_json_as_python() {
    differing("json", |row| {
        let mut headers = Vec::new();
        let body = body(&Options::none(), dict(&row[0]), &mut headers).unwrap().unwrap();
        let ours = String::from_utf8(body).unwrap();
        let theirs = text(&row[1].as_list().unwrap()[0]);
        (ours != theirs || header(&headers, "Content-Type") != Some("application/json")).then(|| format!("{ours}, not {theirs}"))
    });
    let nan = Value::List(vec![Value::Float(f64::NAN)]);
    assert_eq!(dumps(&nan, Style::SPACED).unwrap_err().class, "InvalidJSONError");
}

#[test]
fn merges_as_the_cdk() {
    differing("combine", |row| {
        let ours = combine(row[0].as_list().unwrap().to_vec(), row[1].truthy());
        let theirs = &row[2];
        let same = match &ours {
            Ok(options) => theirs.get("ok") == Some(&options.clone().into_value()),
            Err(failed) => theirs.get("msg").and_then(Value::as_str) == Some(&failed.message),
        };
        (!same).then(|| format!("{}: {ours:?}, not {}", row[0].repr(), theirs.repr()))
    });
}

#[test]
fn reads_links_as_requests() {
    differing("links", |row| {
        let headers = vec![("Link".to_owned(), text(&row[0]).to_owned())];
        let response = HostResponse { status: 200, headers: headers.into(), body: Default::default(), url: String::new() };
        let ours = Response::new(Arc::new(response), &Bounds::default()).unwrap().links();
        (ours != row[1]).then(|| format!("{:?}: {}, not {}", row[0], ours.repr(), row[1].repr()))
    });
}

#[test]
fn one_kind_of_body_only() {
    let both = body(&Options::Text("a".into()), &Dict::from_iter([("a".into(), Value::Int(1))]), &mut Vec::new());
    assert_eq!(both.unwrap_err().class, "RequestBodyException");
    let mut headers = Vec::new();
    let plain = body(&Options::Text("é".into()), &Dict::default(), &mut headers).unwrap();
    assert_eq!((plain.unwrap(), header(&headers, "Content-Type")), ("é".as_bytes().to_vec(), None));
    set(&mut headers, "content-TYPE", "text/csv").unwrap();
    body(&Options::none(), &Dict::from_iter([("a".into(), Value::None)]), &mut headers).unwrap();
    assert_eq!(headers, [("content-TYPE".to_owned(), "text/csv".to_owned())]);
}

#[test]
fn no_header_carries_a_line_break() {
    let mut headers = Vec::new();
    for value in ["a\r\nHost: evil", "a\nb", "a\rb", " a", "\ta", "a\0b"] {
        assert_eq!(set(&mut headers, "X-A", value).unwrap_err().class, "InvalidHeader", "{value:?}");
    }
    for name in ["", "X A", "X:A", "X\nA", " X", "Ü"] {
        assert_eq!(set(&mut headers, name, "a").unwrap_err().class, "InvalidHeader", "{name:?}");
    }
    let secret = set(&mut headers, "Authorization", "Bearer topsecret\n").unwrap_err();
    assert!(!secret.message.contains("topsecret"));
    set(&mut headers, "X-A", "a\tb é").unwrap();
    set(&mut headers, "x-a", "").unwrap();
    assert_eq!(headers, [("x-a".to_owned(), String::new())]);
}

proptest! {
    /// Decoding returns what was encoded, for any text.
    #[test]
    fn query_round_trip(pairs in prop::collection::vec((".{1,8}", ".{1,8}"), 0..5)) {
        let encoded = crate::url::encode_pairs(pairs.iter().map(|(a, b)| (a.as_str(), b.as_str())));
        prop_assert!(encoded.is_ascii());
        let read: Vec<(String, String)> =
            crate::url::parse_qs(&encoded).map(|(key, value)| (key.into_owned(), value.into_owned())).collect();
        prop_assert_eq!(read, pairs);
    }

    /// For any text, the URL code either succeeds or returns an error, and preparing a URL again does not change it.
    #[test]
    fn any_url_is_prepared_or_refused(base in ".{0,30}", path in ".{0,30}") {
        if let Ok(Prepared::Url(url)) = urljoin(&base, &path).and_then(|url| prepare(&url, "a=b")) {
            prop_assert!(url.is_ascii() && !url.contains([' ', '\n', '\r']), "{}", url);
            prop_assert_eq!(prepare(&url, "").unwrap(), Prepared::Url(url));
        }
    }

    #[test]
    fn json_round_trip(text in ".{0,40}", number in any::<i64>(), float in any::<f64>()) {
        let float = if float.is_finite() { float } else { 0.5 };
        let value = Value::List(vec![text.as_str().into(), Value::Int(number), Value::Float(float)]);
        prop_assert_eq!(parse(&dumps(&value, Style::SPACED).unwrap(), 5).unwrap(), value);
    }
}
