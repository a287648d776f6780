//! The body of a request, whole and bounded.

use crate::Limits;
use crate::refusal::Reason;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A body, and its share of the memory for bodies, which is given back when this is dropped.
pub struct HeldBody {
    pub bytes: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

/// Reads the whole body. What is too long is read to its end all the same, up to a bound and without being held: most
/// clients look for an answer only after they have sent their body. `is_awaiting` says that the program sends its body
/// only if it is asked to (`Expect: 100-continue`), so then it is answered at once.
pub async fn read(body: Incoming, is_awaiting: bool, limits: &Limits, shares: &Arc<Semaphore>) -> Result<HeldBody, Reason> {
    let is_declared_too_long = body.size_hint().lower() > u64::try_from(limits.body_bytes).unwrap_or(u64::MAX);
    if is_declared_too_long && is_awaiting {
        return Err(Reason::BodyTooLong(limits.body_bytes));
    }
    tokio::time::timeout(limits.body, collect(body, limits, shares)).await.unwrap_or(Err(Reason::BodyIncomplete))
}

async fn collect(mut body: Incoming, limits: &Limits, shares: &Arc<Semaphore>) -> Result<HeldBody, Reason> {
    let mut bytes = BytesMut::new();
    let mut share: Option<OwnedSemaphorePermit> = None;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(Reason::BodyIncomplete) };
        // Trailers are left out: they are for one connection only.
        let Ok(chunk) = frame.into_data() else { continue };
        let mut refused = None;
        if bytes.len().saturating_add(chunk.len()) > limits.body_bytes {
            refused = Some(Reason::BodyTooLong(limits.body_bytes));
        } else if let Some(more) = take_share(shares, chunk.len()) {
            match &mut share {
                Some(share) => share.merge(more),
                None => share = Some(more),
            }
        } else {
            refused = Some(Reason::Busy("bytes of bodies"));
        }
        if let Some(reason) = refused {
            drop(share);
            drop(bytes);
            discard(body, limits.body_bytes.saturating_mul(8)).await;
            return Err(reason);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(HeldBody { bytes: bytes.freeze(), _share: share })
}

/// Waiting for a share could last for ever, with each body waiting for the end of another one. So it is there or not.
fn take_share(shares: &Arc<Semaphore>, size: usize) -> Option<OwnedSemaphorePermit> {
    Arc::clone(shares).try_acquire_many_owned(u32::try_from(size).ok()?).ok()
}

/// Reads on and forgets, at most this number of bytes.
async fn discard(mut body: Incoming, mut most: usize) {
    while let Some(Ok(frame)) = body.frame().await {
        let size = frame.data_ref().map_or(0, Bytes::len);
        match most.checked_sub(size) {
            Some(rest) => most = rest,
            None => return,
        }
    }
}
