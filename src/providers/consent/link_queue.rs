//! Links are written together: connections that ask for consent at the same time share one write of the store, so that
//! thousands of new connections do not cost one write each.

use super::format::{Reason, StoreContent, StoredLink, Subject};
use super::keys::StoreKeys;
use super::store::{Store, StoreError};
use crate::model::Timestamp;
use std::sync::{Arc, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// The links that wait for the next write.
#[derive(Default)]
pub struct LinkQueue {
    waiting: Vec<NewLink>,
    /// Whether a task writes.
    is_running: bool,
}

/// A link that a connection needs.
struct NewLink {
    keys: Arc<StoreKeys>,
    subject: Subject,
    reason: Option<Reason>,
    now: Timestamp,
    answer: oneshot::Sender<Result<StoredLink, StoreError>>,
}

impl Store {
    /// Returns the open link of `subject`, or creates one. The link is on disk when this returns.
    ///
    /// # Errors
    /// Returns the error of the store, or `WrongKey`.
    pub async fn put_link(
        self: &Arc<Store>,
        keys: &Arc<StoreKeys>,
        subject: Subject,
        reason: Option<Reason>,
        now: Timestamp,
    ) -> Result<StoredLink, StoreError> {
        let (answer, receiver) = oneshot::channel();
        let leads = {
            let mut queue = self.queue();
            queue.waiting.push(NewLink { keys: Arc::clone(keys), subject, reason, now, answer });
            !std::mem::replace(&mut queue.is_running, true)
        };
        if leads {
            // A task of its own, because the attempt that asked first may time out before the others.
            tokio::spawn(Arc::clone(self).write_links());
        }
        receiver.await.unwrap_or_else(|_| Err(self.interrupted()))
    }

    async fn write_links(self: Arc<Store>) {
        loop {
            let batch = {
                let mut queue = self.queue();
                queue.is_running = !queue.waiting.is_empty();
                std::mem::take(&mut queue.waiting)
            };
            let Some(first) = batch.first() else { return };
            let (keys, place) = (Arc::clone(&first.keys), self.place());
            let (answers, wanted): (Vec<_>, Vec<_>) =
                batch.into_iter().map(|link| (link.answer, (link.keys, link.subject, link.reason, link.now))).unzip();
            let create = move |content: &mut StoreContent, _: &StoreKeys| {
                let put_one = |(keys, subject, reason, now): (Arc<StoreKeys>, Subject, Option<Reason>, Timestamp)| {
                    // The policy may name another key since the first link of the batch was asked for.
                    match content.fits(&keys) {
                        true => put(content, &keys, subject, reason, now),
                        false => Err(StoreError::WrongKey { place: place.clone() }),
                    }
                };
                Ok(wanted.into_iter().map(put_one).collect::<Vec<_>>())
            };
            match self.update(&keys, create).await {
                Ok(links) => answers.into_iter().zip(links).for_each(|(answer, link)| drop(answer.send(link))),
                Err(error) => answers.into_iter().for_each(|answer| drop(answer.send(Err(error.copy())))),
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, LinkQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn put(
    content: &mut StoreContent,
    keys: &StoreKeys,
    subject: Subject,
    reason: Option<Reason>,
    now: Timestamp,
) -> Result<StoredLink, StoreError> {
    // Another process, or another attempt of the same batch, may have created it.
    if let Some(link) = content.open_link(keys, &subject, now) {
        return Ok(link.clone());
    }
    let link = StoredLink::new(keys, subject, reason, now)?;
    content.put_link(link.clone(), now);
    Ok(link)
}

#[cfg(test)]
mod tests {
    use super::super::store::test_places::{all, elsewhere};
    use super::*;
    use crate::credentials::Secret;
    use crate::model::ConnectionId;

    fn subject(n: usize) -> Subject {
        let resource_ids = vec![format!("r{n}")];
        Subject {
            connection: ConnectionId::derive("autonomy", "github", &resource_ids),
            namespace: "autonomy".to_string(),
            family: "github".to_string(),
            resource_ids,
            owner: "owner@acme.example".to_string(),
            consent: "acme".to_string(),
        }
    }

    fn keys(digit: &str) -> Arc<StoreKeys> {
        Arc::new(StoreKeys::parse(&Secret::new(digit.repeat(64))).expect("a key"))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn links_that_are_asked_for_at_once_share_a_few_writes() {
        const LINKS: usize = 2000;
        for (rig, store) in all() {
            let (keys, now) = (keys("1"), Timestamp(1_000_000));
            // Each link is asked for twice, by different attempts.
            let asks = (0..2 * LINKS).map(|n| store.put_link(&keys, subject(n % LINKS), None, now));
            let links = futures_util::future::join_all(asks).await;
            let mut ids: Vec<String> = links.into_iter().map(|link| link.expect("a link").id).collect();
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), LINKS);
            assert!(store.writes() <= 10, "{} writes", store.writes());
            let content = elsewhere(&rig, &store).read().await.expect("readable").expect("there");
            assert_eq!(content.links.len(), LINKS, "every link is stored");
            assert!(ids.iter().all(|id| content.link(id).is_some()));
        }
    }

    #[tokio::test]
    async fn a_failure_reaches_everyone_who_waits_and_the_next_link_is_written() {
        for (_rig, store) in all() {
            let now = Timestamp(1_000_000);
            store.put_link(&keys("1"), subject(0), None, now).await.expect("a link");
            let other = keys("2");
            let asks = (1..20).map(|n| store.put_link(&other, subject(n), None, now));
            for link in futures_util::future::join_all(asks).await {
                assert!(matches!(link, Err(StoreError::WrongKey { .. })));
            }
            store.put_link(&keys("1"), subject(1), None, now).await.expect("a link");
            assert_eq!(store.read().await.expect("readable").expect("there").links.len(), 2);
        }
    }
}
