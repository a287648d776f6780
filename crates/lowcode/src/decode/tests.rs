//! Compares the decoders with the results of airbyte-cdk 7.39.1 for the same bytes (`cdk.json`), and tests decompression
//! bombs.

use super::*;
use crate::host::HostResponse;
use crate::json::{parse, parse_orjson};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use std::io::Write;
use std::sync::Arc;

fn response(body: Vec<u8>, headers: &Value) -> Result<Response, Failed> {
    let headers = headers.as_dict().into_iter().flatten().map(|(name, value)| (name.to_string(), value.to_str())).collect();
    let response = HostResponse { status: 200, headers, body: body.into(), url: String::new() };
    Response::new(Arc::new(response), &bounds())
}

fn bounds() -> Bounds {
    Bounds { body_bytes: 100_000, depth: 50, ..Bounds::default() }
}

/// JSON cannot represent NaN, so the table has it as text.
fn shown(value: &Value) -> String {
    value.repr().replace("nan", "'NaN'").replace("inf", "'Infinity'")
}

#[test]
fn decodes_as_the_cdk() {
    let rows = parse(include_str!("cdk.json"), 50).unwrap();
    let rows = rows.as_list().unwrap();
    assert!(rows.len() > 90);
    let mut wrong = Vec::new();
    for row in rows {
        let [node, body, headers, expected] = row.as_list().unwrap() else { panic!("a row of four") };
        let body = STANDARD.decode(body.as_str().unwrap()).unwrap();
        let text = String::from_utf8_lossy(&body).into_owned();
        let ours = Decoder::build(Some(node)).and_then(|it| Ok(it.decode(&response(body, headers)?, &bounds())?.into_owned()));
        let ours = match ours {
            Ok(values) => shown(&Value::List(values)),
            Err(failed) => failed.class.to_owned(),
        };
        let theirs = expected.get("ok").map_or_else(|| expected.get("err").unwrap().to_str(), shown);
        if ours != theirs {
            wrong.push(format!("{} {text:?}\n  ours   {ours}\n  theirs {theirs}", kind(node)));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

fn node(text: &str) -> Decoder {
    Decoder::build(Some(&parse(text, 9).unwrap())).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_bomb_ends_with_an_error() {
    let bomb = gzip(&vec![b' '; 50_000_000]);
    assert!(bomb.len() < 100_000, "it would not get in");
    let none = Value::None;
    let raw = node(r#"{"type":"GzipDecoder","decoder":{"type":"JsonDecoder"}}"#);
    assert_eq!(raw.decode(&response(bomb.clone(), &none).unwrap(), &bounds()).unwrap_err().class, "Bound");
    // The same body, once compressed according to `Content-Encoding` and once compressed twice.
    let transport = parse(r#"{"Content-Encoding":"gzip"}"#, 9).unwrap();
    assert_eq!(response(bomb.clone(), &transport).unwrap_err().class, "Bound");
    let twice = response(gzip(&bomb), &transport).unwrap();
    assert_eq!(raw.decode(&twice, &bounds()).unwrap_err().class, "Bound");
    let mut archive = ::zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for name in ["a", "b", "c"] {
        archive.start_file(name, ::zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(&vec![b' '; 60_000]).unwrap();
    }
    let archive = archive.finish().unwrap().into_inner();
    // Each file is within the limit, but all files together exceed it.
    let zip = node(r#"{"type":"ZipfileDecoder","decoder":{"type":"JsonlDecoder"}}"#);
    assert_eq!(zip.decode(&response(archive, &none).unwrap(), &bounds()).unwrap_err().class, "Bound");
    assert_eq!(response(vec![0; 100_001], &none).unwrap_err().class, "Bound");
}

#[test]
fn deep_bodies_end() {
    let json = "[".repeat(100_000);
    assert_eq!(parse(&json, 50).unwrap_err().what, "nested too deeply");
    let xml = response("<a>".repeat(30_000).into_bytes(), &Value::None).unwrap();
    assert_eq!(Decoder::Xml.decode(&xml, &bounds()).unwrap_err().class, "Bound");
}

#[test]
fn undoes_deflate_in_both_forms() {
    let headers = parse(r#"{"content-encoding":"deflate"}"#, 9).unwrap();
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(b"[1]").unwrap();
    let mut bare = DeflateEncoder::new(Vec::new(), Compression::fast());
    bare.write_all(b"[1]").unwrap();
    for body in [zlib.finish().unwrap(), bare.finish().unwrap()] {
        assert_eq!(response(body, &headers).unwrap().content(), b"[1]");
    }
    // The host has already decompressed the body and has kept the header.
    assert_eq!(response(b"[1]".to_vec(), &headers).unwrap().content(), b"[1]");
}

#[test]
fn integers_of_any_size() {
    assert_eq!(parse("18446744073709551616", 1).unwrap().repr(), "18446744073709551616");
    assert_eq!(parse_orjson("18446744073709551616", 1).unwrap().repr(), "1.8446744073709552e+19");
    assert_eq!(parse_orjson("18446744073709551615", 1).unwrap().repr(), "18446744073709551615");
}

#[test]
fn an_unknown_decoder_is_refused() {
    for text in [
        r#"{"type":"GzipDecoder","decoder":{"type":"XmlDecoder"}}"#,
        r#"{"type":"CsvDecoder","delimiter":"ab"}"#,
        r#"{"type":"CsvDecoder","encoding":"klingon"}"#,
    ] {
        assert!(Decoder::build(Some(&parse(text, 9).unwrap())).is_err(), "{text}");
    }
}

proptest::proptest! {
    /// For any body, a decoder returns records or an error.
    #[test]
    fn any_bytes(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200), which in 0_usize..7) {
        let decoders = [
            r#"{"type":"JsonDecoder"}"#, r#"{"type":"JsonlDecoder"}"#, r#"{"type":"CsvDecoder"}"#, r#"{"type":"XmlDecoder"}"#,
            r#"{"type":"IterableDecoder"}"#, r#"{"type":"GzipDecoder","decoder":{"type":"CsvDecoder","encoding":"cp1252"}}"#,
            r#"{"type":"ZipfileDecoder","decoder":{"type":"JsonDecoder"}}"#,
        ];
        let _ = node(decoders[which]).decode(&response(body, &Value::None).unwrap(), &bounds());
    }
}
