//! Object storage: `s3` and `s3_compat`.
//!
//! Least privilege is `s3:ListBucket` and `s3:GetBucketLocation`: everything here is `HEAD` on the
//! bucket and `ListObjectsV2`. The way through: [`address`] (resource id -> place), [`keys`]
//! (credential -> access key), [`sigv4`] (signature), [`store`] (signed calls, region discovery),
//! [`list`] (XML), [`classify`] (answer -> failure), [`connector`] (the open bucket).

pub mod address;
pub mod classify;
pub mod connector;
pub mod keys;
pub mod list;
pub mod sigv4;
pub mod store;

use super::{Engine, Need, Opened, Target};
use crate::clock::Clock;
use crate::credentials::Credential;
use crate::egress::{Answer, PlannedCall};
use crate::model::{Evidence, Failure, Privilege};
use crate::policy::{FamilyPolicy, Policy};
use address::{Flavor, Place};
use connector::Bucket;
use futures_util::future::BoxFuture;
use serde_json::json;
use std::sync::Arc;
pub use store::Wire;
use store::{Met, Store};

/// Opens buckets. One for each family: their resource ids look alike and mean different places.
pub struct ObjectEngine {
    flavor: Flavor,
    clock: Arc<dyn Clock>,
}

impl ObjectEngine {
    /// The engine of `s3`. Signatures carry the time of `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> ObjectEngine {
        ObjectEngine { flavor: Flavor::Aws, clock }
    }

    /// The engine of `s3_compat`.
    #[must_use]
    pub fn compatible(clock: Arc<dyn Clock>) -> ObjectEngine {
        ObjectEngine { flavor: Flavor::Compatible, clock }
    }

    /// [`Engine::open`] over any wire.
    ///
    /// # Errors
    /// `CredentialMissing` and `Misconfigured` before anything is sent, then what the store says.
    pub async fn open_on(&self, wire: Arc<dyn Wire>, resource_id: &str, credential: Option<&Credential>, policy: &FamilyPolicy) -> Result<Opened, Failure> {
        let (keys, region) = keys::read(credential)?;
        let place = address::place(self.flavor, resource_id, policy, region.as_deref())?;
        let mut store = Store::new(place, keys, wire, Arc::clone(&self.clock));
        let met = store.meet().await?;
        let identity = identity(&store.place, &met);
        let head_works = connector::speaks_s3(&met.head);
        let reason = "the store offers no way to ask what a key may do besides listing; a session policy or a key of its own keeps it small";
        let privilege = Privilege::Unknown { reason: reason.to_string() };
        Ok(Opened { connector: Box::new(Bucket { store, head_works }), identity, privilege })
    }

    fn place(&self, resource_id: &str, policy: &Policy) -> Result<Place, Failure> {
        address::place(self.flavor, resource_id, &policy.family(self.flavor.family()), None)
    }
}

impl Engine for ObjectEngine {
    fn accepts(&self, resource_id: &str) -> Result<(), Failure> {
        // The endpoint may come from the policy, which is judged when the resource is opened.
        let anywhere = FamilyPolicy { base_url: Some("https://endpoint.invalid".to_string()), ..FamilyPolicy::default() };
        address::place(self.flavor, resource_id, &anywhere, None).map(|_| ())
    }

    fn need(&self, _resource_id: &str) -> Need {
        Need::Required
    }

    fn account(&self, resource_id: &str, policy: &Policy) -> String {
        self.place(resource_id, policy).map_or_else(|_| self.flavor.family().to_string(), |place| place.host())
    }

    fn planned_calls(&self, resource_id: &str, policy: &Policy) -> Vec<PlannedCall> {
        self.place(resource_id, policy).map_or_else(|_| Vec::new(), |place| planned(&place))
    }

    fn open(&self, target: Target) -> BoxFuture<'_, Result<Opened, Failure>> {
        Box::pin(async move {
            let policy = target.policy.family(self.flavor.family());
            self.open_on(Arc::new(target.session), &target.resource_id, target.credential.as_ref(), &policy).await
        })
    }
}

/// Two methods on one path; a second host only where the region is still to be found and decides the host.
fn planned(place: &Place) -> Vec<PlannedCall> {
    let path = place.url().map(|url| url.path().to_string()).unwrap_or_default();
    let mut hosts = vec![place.host()];
    if place.guessed && place.host_follows_region() {
        hosts.push(place.host().replace(&place.region, "<the bucket's region>"));
    }
    let call = |method: &str, host: &String| PlannedCall { method: method.to_string(), host: host.clone(), path: path.clone() };
    hosts.iter().flat_map(|host| [call("HEAD", host), call("GET", host)]).collect()
}

fn identity(place: &Place, met: &Met) -> Evidence {
    let mut evidence = Evidence::new();
    evidence.insert("bucket".into(), json!(place.bucket));
    if !place.prefix.is_empty() {
        evidence.insert("prefix".into(), json!(place.prefix));
    }
    evidence.insert("host".into(), json!(place.host()));
    evidence.insert("addressing".into(), json!(if place.path_style() { "path" } else { "virtual host" }));
    evidence.insert("region".into(), json!(place.region));
    evidence.insert("region_from".into(), json!(if met.discovered { "the store" } else if place.guessed { "default" } else { "policy or credential" }));
    evidence.insert("head_status".into(), json!(met.head.status));
    if let Some(server) = met.listed.header("server") {
        evidence.insert("server".into(), json!(classify::printable(server)));
    }
    if is_plain(&met.listed) {
        evidence.insert("transport".into(), json!("plain http: listings can be read on the way; the secret key is never sent"));
    }
    connector::note_request_id(&mut evidence, &met.listed);
    evidence
}

fn is_plain(answer: &Answer) -> bool {
    answer.url.scheme() == "http"
}
