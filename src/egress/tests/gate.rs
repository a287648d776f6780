//! Tests of the gate: a process that may not call sends nothing.

use super::rig::{Reply, Server, World, answer, get};
use crate::egress::{Caller, WebhookPost};
use crate::model::{CallPurpose, Class, ConnectionId};
use crate::policy::{Webhook, WebhookAddress, WebhookForm};
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// Lets a test close the gate.
fn gate(world: &World) -> Arc<AtomicBool> {
    let closed = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&closed);
    world.egress.set_gate(Arc::new(move |_| match asked.load(Ordering::SeqCst) {
        true => Err("the leases of this process may have ended".to_string()),
        false => Ok(()),
    }));
    closed
}

#[tokio::test]
async fn nothing_is_called_while_the_gate_is_closed() {
    let mut world = World::new();
    world.policy.breaker.failures = 1;
    let server = Server::start(vec![answer(200, &[], b"")]).await;
    let closed = gate(&world);
    closed.store(true, Ordering::SeqCst);
    let session = world.session();
    let failure = session.http(get(&server.url("/"))).await.unwrap_err();
    assert_eq!(failure.class, Class::Throttled);
    assert!(!failure.class.conclusive(), "it says nothing about the connection");
    assert_eq!(failure.detail, "the leases of this process may have ended");
    assert!(session.admit("127.0.0.1", server.port).await.is_err());
    assert!(session.local("x").await.is_err());
    assert_eq!((server.count(), world.budget.total(), session.traffic().calls), (0, 0, 0));
    closed.store(false, Ordering::SeqCst);
    assert_eq!(session.http(get(&server.url("/"))).await.unwrap().status, 200, "no circuit breaker was opened");
}

#[tokio::test]
async fn a_call_that_waited_is_not_made_if_the_gate_closed_meanwhile() {
    let mut world = World::new();
    world.cap.concurrency = 1;
    let (server, closed) = (Server::start(vec![answer(200, &[], b"")]).await, gate(&world));
    let held = world.session().admit("127.0.0.1", 9).await.unwrap();
    let session = world.session();
    let mut waiting = Box::pin(session.http(get(&server.url("/"))));
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("it did not wait for the slot"),
        () = tokio::task::yield_now() => {}
    }
    closed.store(true, Ordering::SeqCst);
    drop(held);
    assert_eq!(waiting.await.unwrap_err().class, Class::Throttled);
    assert_eq!(server.count(), 0);
    // It also is not made after a wait for the registry.
    closed.store(false, Ordering::SeqCst);
    let mut other = World::new();
    other.cap.per_day = 50;
    let closed = gate(&other);
    let disk = other.budget.disk.lock().await;
    let session = other.session();
    let mut waiting = Box::pin(session.http(get(&server.url("/"))));
    while *other.budget.asked.lock().unwrap() == 0 {
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("it did not wait for the registry"),
            () = tokio::task::yield_now() => {}
        }
    }
    closed.store(true, Ordering::SeqCst);
    drop(disk);
    assert_eq!(waiting.await.unwrap_err().class, Class::Throttled);
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn a_connection_that_was_opened_meanwhile_is_closed_without_a_request() {
    let world = World::new();
    let server = Server::start(vec![Reply::When(Arc::new(Notify::new()), Vec::new())]).await;
    // The gate is asked when the call begins, after its wait, after the registry answered, and when the connection is open.
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    world.egress.set_gate(Arc::new(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0..=2 => Ok(()),
        _ => Err("the leases of this process may have ended".to_string()),
    }));
    let call = world.session().http(get(&server.url("/"))).await;
    let failure = call.unwrap_err();
    assert_eq!((failure.class, asked.load(Ordering::SeqCst)), (Class::Throttled, 4), "{failure:?}");
    assert!(server.heads.lock().unwrap().iter().all(String::is_empty), "no request arrived");
}

#[tokio::test]
async fn messages_to_webhooks_go_through_the_gate() {
    let mut world = World::new();
    let server = Server::start(vec![answer(200, &[], b"")]).await;
    let url: url::Url = server.url("/hook").parse().unwrap();
    let (on, namespaces) = Default::default();
    let webhook = Webhook {
        name: "ops".to_string(),
        address: WebhookAddress::Url(url.clone()),
        form: WebhookForm::Slack,
        secret: None,
        on,
        namespaces,
    };
    world.policy.notify = vec![webhook.clone()];
    let policy = Arc::new(world.policy.clone());
    let post = || WebhookPost { url: url.clone(), headers: Vec::new(), body: Bytes::from_static(b"{}") };
    let closed = gate(&world);
    closed.store(true, Ordering::SeqCst);
    assert_eq!(world.egress.post_webhook(&policy, &webhook, post()).await.unwrap_err().class, Class::Throttled);
    assert_eq!(server.count(), 0);
    closed.store(false, Ordering::SeqCst);
    assert_eq!(world.egress.post_webhook(&policy, &webhook, post()).await.unwrap().status, 200);
}

#[tokio::test]
async fn the_gate_is_asked_for_the_connection_of_a_source_and_not_of_a_vault() {
    let world = World::new();
    let asked: Arc<Mutex<Vec<Option<ConnectionId>>>> = Arc::default();
    let seen = Arc::clone(&asked);
    world.egress.set_gate(Arc::new(move |source_of| {
        seen.lock().unwrap().push(source_of);
        source_of.map_or(Ok(()), |_| Err("another replica has this connection now".to_string()))
    }));
    let caller = world.caller();
    assert_eq!(caller.purpose, CallPurpose::Source);
    let failure = world.egress.session(caller.clone()).admit("127.0.0.1", 9).await.err().unwrap();
    assert_eq!((failure.class, failure.detail.as_str()), (Class::Throttled, "another replica has this connection now"));
    assert!(asked.lock().unwrap().iter().all(|source_of| *source_of == Some(caller.connection)));
    let vault = Caller { purpose: CallPurpose::Vault, ..caller };
    assert!(world.egress.session(vault).admit("127.0.0.1", 9).await.is_ok());
    assert_eq!(asked.lock().unwrap().last(), Some(&None));
}
