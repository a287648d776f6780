//! Tests of signed requests over real sockets: what is signed, what never is, and how often.

use super::rig::{Reply, Server, World, answer, get};
use crate::credentials::signer::{RequestSigner, SignedResponse, Signer, UnsignedRequest};
use crate::credentials::{Credential, Secret, redact};
use crate::egress::{HttpRequest, Signing};
use crate::model::{Class, Failure};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use url::Url;

/// Signs with a number that grows, and asks for another signature while the server says `again`.
#[derive(Default)]
struct Counting {
    made: AtomicUsize,
    signed: Mutex<Vec<String>>,
}

impl RequestSigner for Counting {
    fn scheme(&self) -> &'static str {
        "Counting"
    }

    fn headers(&self, request: &UnsignedRequest<'_>) -> Result<Vec<(String, Secret)>, Failure> {
        let number = self.made.fetch_add(1, Ordering::SeqCst);
        let form = request.form().unwrap_or("no form");
        self.signed.lock().unwrap().push(format!("{} {} {form}", request.method, request.url));
        Ok(vec![("authorization".to_string(), Secret::new(format!("Counting number-{number}")))])
    }

    fn wants_another(&self, response: &SignedResponse<'_>) -> bool {
        response.status == 401 && response.header("again").is_some()
    }

    fn refusal(&self, response: &SignedResponse<'_>) -> Option<Failure> {
        let text = String::from_utf8_lossy(response.body).into_owned();
        (response.status == 401)
            .then(|| Failure::new(Class::CredentialRejected, "the signature is wrong", "sign better").detail(text))
    }

    fn secrets(&self) -> Vec<Secret> {
        vec![Secret::new("of-the-signing-canary".to_string())]
    }
}

struct Rig {
    world: World,
    signer: Arc<Counting>,
    signing: Arc<Signing>,
}

impl Rig {
    fn new(url: &str) -> Rig {
        let signer = Arc::new(Counting::default());
        let signing = Signing::new(Signer::new(&Url::parse(url).unwrap(), signer.clone()));
        Rig { world: World::new(), signer, signing }
    }

    async fn send(&self, request: HttpRequest) -> Result<u16, Failure> {
        let session = self.world.session().with_signing(Some(Arc::clone(&self.signing)));
        session.http(request).await.map(|response| response.status)
    }
}

/// The values of the header in each request, in order.
fn authorizations(server: &Server) -> Vec<String> {
    let heads = server.heads.lock().unwrap();
    let value = |head: &String| head.lines().find_map(|line| line.strip_prefix("authorization: ").map(str::to_string));
    heads.iter().map(|head| value(head).unwrap_or_default()).collect()
}

#[tokio::test]
async fn every_try_and_every_redirect_has_a_signature_of_its_own() {
    let server = Server::start(vec![
        Reply::Close,
        answer(302, &[("location", "/next?page=2")], b""),
        answer(503, &[], b"later"),
        answer(200, &[], b"[]"),
    ])
    .await;
    let rig = Rig::new(&server.url("/"));
    assert_eq!(rig.send(get(&server.url("/first?page=1"))).await.unwrap(), 200);
    assert_eq!(authorizations(&server), ["Counting number-0", "Counting number-1", "Counting number-2", "Counting number-3"]);
    let signed = rig.signer.signed.lock().unwrap().join("\n");
    assert!(signed.ends_with(&format!("GET {} no form", server.url("/next?page=2"))), "{signed}");
    assert!(
        !server.heads.lock().unwrap().iter().any(|head| head.contains("of-the-canary-7777")),
        "the engine's header is replaced"
    );
}

#[tokio::test]
async fn another_origin_never_gets_a_signature() {
    let home = Server::start(vec![answer(200, &[], b"[]")]).await;
    let other = Server::start(vec![answer(401, &[("again", "1")], b"{}")]).await;
    let rig = Rig::new(&home.url("/"));
    // Another port, another address of the same machine and another scheme are other origins.
    for url in [other.url("/"), home.url("/").replace("127.0.0.1", "127.0.0.2")] {
        let _ = rig.send(get(&url)).await;
    }
    let covers = Signer::new(&Url::parse("https://a.example").unwrap(), rig.signer.clone());
    for (url, covered) in [("https://A.example:443/x", true), ("http://a.example/x", false), ("https://a.example.evil/x", false)]
    {
        assert_eq!(covers.covers(&Url::parse(url).unwrap()), covered, "{url}");
    }
    assert_eq!(rig.signer.made.load(Ordering::SeqCst), 0);
    assert_eq!(authorizations(&other), ["Bearer of-the-canary-7777"]);
    let refused = Failure::new(Class::CredentialRejected, "rejected", "fix").detail("401");
    let explained = rig.signing.explain(refused.clone());
    assert_eq!(explained.class, Class::Misconfigured, "{explained:?}");
    assert!(explained.title.contains(home.url("").as_str()) && explained.detail == "rejected: 401", "{explained:?}");
    assert_eq!(rig.send(get(&home.url("/"))).await.unwrap(), 200);
    assert_eq!(rig.signing.explain(refused.clone()), refused, "once something was signed, the failure stays");
}

#[tokio::test]
async fn another_signature_is_tried_once() {
    let again = || answer(401, &[("again", "1")], b"use another");
    let server = Server::start(vec![again(), answer(200, &[], b"[]"), again(), again(), answer(200, &[], b"[]")]).await;
    let rig = Rig::new(&server.url("/"));
    assert_eq!(rig.send(get(&server.url("/"))).await.unwrap(), 200);
    assert_eq!(rig.send(get(&server.url("/"))).await.unwrap(), 401);
    assert_eq!(server.count(), 4);
    assert_eq!(rig.signer.made.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn what_the_signer_knows_about_a_refusal_replaces_what_the_engine_guesses() {
    let server = Server::start(vec![answer(401, &[], b"bad signature"), answer(200, &[], b"[]")]).await;
    let rig = Rig::new(&server.url("/"));
    let guess = Failure::new(Class::CredentialRejected, "rejected", "fix");
    assert_eq!(rig.send(get(&server.url("/"))).await.unwrap(), 401);
    let explained = rig.signing.explain(guess.clone());
    assert_eq!((explained.title.as_str(), explained.detail.as_str()), ("the signature is wrong", "bad signature; rejected"));
    let network = Failure::new(Class::Network, "no route", "fix");
    assert_eq!(rig.signing.explain(network.clone()), network);
    // A later success proves that the signature is right.
    assert_eq!(rig.send(get(&server.url("/"))).await.unwrap(), 200);
    assert_eq!(rig.signing.explain(guess.clone()), guess);
}

#[tokio::test]
async fn the_secrets_of_a_signer_are_learned_with_its_credential() {
    let signer = Signer::new(&Url::parse("https://a.example").unwrap(), Arc::new(Counting::default()));
    let credential = Credential::from_fields([]).with_signer(signer.clone());
    assert!(!format!("{credential:?}").contains("canary"));
    assert_eq!(credential, Credential::from_fields([]).with_signer(signer));
    let scrubbed = redact::AttemptSecrets::new(&[]).run(async {
        redact::learn(&credential);
        redact::scrub("it is of-the-signing-canary").into_owned()
    });
    assert_eq!(scrubbed.await, "it is [redacted]");
}
