//! Bodies in the forms that servers and proxies give to JSON besides plain UTF-8.

use ::lowcode::bounds::Bounds;
use ::lowcode::host::HostResponse;
use ::lowcode::response::Response;
use bytes::Bytes;
use std::sync::Arc;

const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// Returns `response` with its body in UTF-8, without a byte order mark and without the encoding `deflate`. A body that does
/// not have one of these forms stays as it is. `max_bytes` bounds the body.
///
/// Python's `requests` reads these forms too. RFC 8259, section 8.1, lets a reader ignore the mark.
pub(super) fn in_utf8(response: HostResponse, max_bytes: u64) -> HostResponse {
    let response = inflated(response, max_bytes);
    let body = &response.body;
    let units = |from_bytes: fn([u8; 2]) -> u16| -> Option<Bytes> {
        let units = body.get(2..)?.chunks_exact(2).filter_map(|pair| Some(from_bytes(pair.try_into().ok()?)));
        let text: String = char::decode_utf16(units).collect::<Result<_, _>>().ok()?;
        Some(text.into_bytes().into())
    };
    let decoded = match body.as_ref() {
        [0xff, 0xfe, ..] => units(u16::from_le_bytes),
        [0xfe, 0xff, ..] => units(u16::from_be_bytes),
        whole if whole.starts_with(UTF8_MARK) => Some(body.slice(UTF8_MARK.len()..)),
        _ => None,
    };
    match decoded {
        Some(body) => HostResponse { body, ..response },
        None => response,
    }
}

fn inflated(response: HostResponse, max_bytes: u64) -> HostResponse {
    if !response.header("content-encoding").is_some_and(|encoding| encoding.trim().eq_ignore_ascii_case("deflate")) {
        return response;
    }
    let bounds = Bounds { body_bytes: usize::try_from(max_bytes).unwrap_or(usize::MAX), ..Bounds::default() };
    let Ok(read) = Response::new(Arc::new(response.clone()), &bounds) else { return response };
    let headers = response.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("content-encoding")).cloned().collect();
    HostResponse { body: Bytes::copy_from_slice(read.content()), headers, ..response }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &[u8], encoding: Option<&str>) -> Bytes {
        let headers = encoding.map(|encoding| ("Content-Encoding".to_string(), encoding.to_string())).into_iter().collect();
        in_utf8(HostResponse { status: 200, headers, body: Bytes::copy_from_slice(body), url: String::new() }, 1 << 20).body
    }

    #[test]
    fn marks_and_deflate_are_removed() {
        assert_eq!(read(b"\xef\xbb\xbf{}", None), "{}");
        assert_eq!(read(b"\xff\xfe{\0}\0", None), "{}");
        assert_eq!(read(b"\xfe\xff\0{\0}", None), "{}");
        let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut packed, b"[1]").unwrap();
        assert_eq!(read(&packed.finish().unwrap(), Some("deflate")), "[1]");
    }

    #[test]
    fn other_bodies_stay() {
        for body in [&b"{}"[..], b"", b"\xef\xbb", b"\xff\xfe\0\xd8", b"<html>"] {
            assert_eq!(read(body, None), body);
            assert_eq!(read(body, Some("identity")), body);
        }
        assert_eq!(read(b"not compressed", Some("deflate")), "not compressed");
    }
}
