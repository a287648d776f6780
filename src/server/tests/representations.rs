//! Tests of compressed responses and of responses that the client has already.

use super::*;

/// Sends a GET and returns the reply and the decompressed body.
async fn get_with(server: &TestServer, method: &str, target: &str, headers: &[(&str, &str)]) -> (HttpReply, Vec<u8>) {
    let token = bearer(FULL);
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAuthorization: {token}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let mut stream = server.connect().await;
    stream.write_all(text.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("read");
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    let reply = HttpReply::read(&answer[..end]);
    let body = match reply.header("content-encoding") {
        "gzip" if answer.len() > end => {
            let mut body = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&answer[end..]), &mut body).expect("gzip");
            body
        }
        _ => answer[end..].to_vec(),
    };
    (reply, body)
}

#[tokio::test]
async fn large_answers_are_compressed_for_clients_that_accept_it() {
    let server = TestServer::new().await;
    let documents: Vec<Value> = (0..200).map(|n| document("jdbc", &format!("r{n}"))).collect();
    server.accept(&documents).await;
    for path in
        ["/connections?limit=1000", "/connections/health", "/dashboard.json", "/", "/openapi.json", "/families", "/metrics"]
    {
        let (plain, expected) = get_with(&server, "GET", path, &[]).await;
        assert_eq!((plain.status, plain.header("content-encoding")), (200, ""), "{path}");
        assert!(plain.header("vary").contains("Accept-Encoding"), "{path}");
        let (zipped, body) = get_with(&server, "GET", path, &[("Accept-Encoding", "br, gzip;q=0.8")]).await;
        assert_eq!((zipped.status, zipped.header("content-encoding")), (200, "gzip"), "{path}");
        let length: usize = zipped.header("content-length").parse().expect("a length");
        assert!(length * 2 < expected.len(), "{path}: {length} of {}", expected.len());
        if path != "/metrics" {
            assert!(body == expected, "{path}: the content is the same");
        }
        let (head, none) = get_with(&server, "HEAD", path, &[("Accept-Encoding", "gzip")]).await;
        assert_eq!((head.status, head.header("content-encoding"), none.len()), (200, "gzip", 0), "{path}");
    }
    for accepted in ["gzip;q=0", "identity", "gzip;q=0.1, identity;q=0.5", ""] {
        let (reply, _) = get_with(&server, "GET", "/connections", &[("Accept-Encoding", accepted)]).await;
        assert_eq!(reply.header("content-encoding"), "", "{accepted}");
    }
    let (small, _) = get_with(&server, "GET", "/healthz", &[("Accept-Encoding", "gzip")]).await;
    assert_eq!((small.header("content-encoding"), small.header("vary")), ("", ""), "a small body is sent as it is");
}

#[tokio::test]
async fn a_client_that_has_the_answer_gets_304_until_it_changes() {
    let server = TestServer::new().await;
    let id = server.accept(&[document("jdbc", "a")]).await[0];
    for path in
        ["/connections", "/metrics/funnel", "/dashboard.json", "/openapi.json", "/families", &format!("/connections/{id}")]
    {
        let (first, _) = get_with(&server, "GET", path, &[]).await;
        let tag = first.header("etag").to_string();
        assert!(tag.starts_with("W/\""), "{path}: {first:?}");
        // A later second renders the funnel and the dashboard again, with another as_of.
        server.later(5000);
        for known in [tag.clone(), format!("\"x\", {tag}"), tag.trim_start_matches("W/").to_string(), "*".to_string()] {
            let (again, body) = get_with(&server, "GET", path, &[("If-None-Match", &known), ("Accept-Encoding", "gzip")]).await;
            assert_eq!((again.status, again.header("etag"), body.len()), (304, tag.as_str(), 0), "{path} {known}");
            assert!(!again.headers.contains_key("content-type") && again.header("cache-control") == "no-store", "{again:?}");
        }
        let (other, _) = get_with(&server, "GET", path, &[("If-None-Match", "\"x\"")]).await;
        assert_eq!(other.status, 200, "{path}");
    }
    let (before, _) = get_with(&server, "GET", "/connections", &[]).await;
    server.accept(&[document("jdbc", "b")]).await;
    let (after, _) = get_with(&server, "GET", "/connections", &[("If-None-Match", before.header("etag"))]).await;
    assert_eq!(after.status, 200, "another connection is another content");
    let (refused, _) = get_with(&server, "GET", "/connections?limit=0", &[("If-None-Match", "*")]).await;
    assert_eq!((refused.status, refused.header("etag")), (400, ""), "a refusal has no tag");
    let other = [("Authorization", bearer(OTHER)), ("If-None-Match", before.header("etag").to_string())];
    let other: Vec<(&str, &str)> = other.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(server.send("GET", "/connections", &other, None).await.status, 403, "a tag gives no access");
}
