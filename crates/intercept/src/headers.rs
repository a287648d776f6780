//! Headers that are for one connection only, and those that the URL and the body repeat.

use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};

/// RFC 9110, section 7.6.1, with the older `Keep-Alive` and `Proxy-Connection`.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Removes what is for one connection only, and what `Connection` names.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Removes what the URL, the body and the proxy's own handling of a request already say.
pub fn remove_from_request(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    for name in [HOST, CONTENT_LENGTH, EXPECT] {
        headers.remove(name);
    }
}

/// Removes what the proxy sets by itself. `is_head` keeps the length that the answer to a GET would have.
pub fn remove_from_response(headers: &mut HeaderMap, is_head: bool) {
    remove_hop_by_hop(headers);
    // Two lengths, or one that is not a number, would make the response unreadable.
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next().filter(|value| !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit)).cloned();
    let is_single = lengths.next().is_none();
    headers.remove(CONTENT_LENGTH);
    if let Some(length) = length.filter(|_| is_head && is_single) {
        headers.insert(CONTENT_LENGTH, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn what_is_for_one_connection_is_removed() {
        let mut all = headers(&[
            ("connection", "keep-alive, X-Once"),
            ("connection", "x-twice"),
            ("x-once", "1"),
            ("x-twice", "2"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic eA=="),
            ("proxy-connection", "close"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("host", "a.example"),
            ("content-length", "3"),
            ("expect", "100-continue"),
            ("authorization", "Bearer t"),
            ("accept", "*/*"),
        ]);
        remove_from_request(&mut all);
        assert_eq!(all, headers(&[("authorization", "Bearer t"), ("accept", "*/*")]));
    }

    #[test]
    fn only_an_answer_to_head_keeps_its_length() {
        let length = |pairs: &[(&'static str, &'static str)], is_head: bool| {
            let mut headers = headers(pairs);
            remove_from_response(&mut headers, is_head);
            headers.get(CONTENT_LENGTH).map(|value| value.to_str().unwrap().to_string())
        };
        assert_eq!(length(&[("content-length", "12")], true).as_deref(), Some("12"));
        assert_eq!(length(&[("content-length", "12")], false), None);
        assert_eq!(length(&[("content-length", "x")], true), None);
        assert_eq!(length(&[("content-length", "1"), ("content-length", "2")], true), None);
    }
}
