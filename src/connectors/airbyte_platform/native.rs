//! The tiny sync of a source that is in a company's own Airbyte: Airbyte itself has no call that reads a few records, so AAM's
//! own engine of the family reads them, where it can.

use crate::connectors::{AuthorizedResource, Bounds, Sample};
use crate::credentials::Credential;
use crate::egress::{Caller, Session, Signing};
use crate::model::{Evidence, Failure};
use std::sync::Arc;
use std::time::Duration;

/// The family's own engine with the credential, or why it cannot use it.
pub struct NativeReader {
    /// The vendor account whose quota the calls use.
    pub account: String,
    /// The name of the engine, for the evidence.
    pub engine: String,
    pub authorized: Result<AuthorizedResource, Failure>,
    pub credential: Option<Credential>,
}

/// Reads at most `max_items` items through the family's own engine. If that is not possible, the sample says so: the
/// connection has a catalog, and its records were not looked at.
pub async fn sample(reader: Option<NativeReader>, platform: &Session, max_items: u32) -> Sample {
    let Some(reader) = reader else { return metadata_only("this attempt has read its sample already") };
    let engine = reader.engine.clone();
    let limit = platform.caller.policy.safe_mode(&platform.caller.family).step_timeout.mul_f64(0.8);
    match tokio::time::timeout(limit, read(reader, platform, max_items, limit)).await {
        Ok(Ok(mut sample)) => {
            sample.evidence.insert("read_by".into(), format!("AAM's own engine ({engine}), not Airbyte").into());
            sample
        }
        Ok(Err(failure)) => metadata_only(&failure.title),
        Err(_) => metadata_only("the source did not answer AAM in time"),
    }
}

async fn read(reader: NativeReader, platform: &Session, max_items: u32, limit: Duration) -> Result<Sample, Failure> {
    let authorized = reader.authorized?;
    let caller = Caller { account: reader.account, posts: Arc::new(authorized.posts.clone()), ..platform.caller.clone() };
    let signing = reader.credential.as_ref().and_then(Credential::signer).cloned().map(Signing::new);
    let session = platform
        .egress
        .session(caller)
        .with_concurrency(platform.concurrency())
        .with_memory(Arc::clone(platform.memory()))
        .with_signing(signing);
    let opened = authorized.open(session).await?;
    let discovery = opened.connector.discover(Bounds { time: limit.mul_f64(0.5), ..Bounds::default() }).await?;
    let mut sample = opened.connector.tiny_sync(&discovery.catalog, max_items).await?;
    sample.evidence.insert("native_traffic".into(), serde_json::json!(opened.connector.traffic()));
    Ok(sample)
}

fn metadata_only(why: &str) -> Sample {
    let evidence = Evidence::from_iter([("metadata_only".to_string(), why.into())]);
    Sample { metadata_only: Some(why.to_string()), ..Sample::new(0, evidence) }
}
