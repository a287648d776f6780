//! Object storage: `s3` and `s3_compat`.
//!
//! The least privilege is `s3:ListBucket` and `s3:GetBucketLocation`: the only calls are `HEAD` on the bucket and
//! `ListObjectsV2`. An attempt runs through [`address`] (resource id -> bucket and endpoint), [`keys`]
//! (credential -> access key), [`sigv4`] (signature), [`store`] (signed calls, region discovery),
//! [`list`] (XML), [`classify`] (response -> failure), [`connector`] (the open bucket).

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

/// Opens buckets. There is one engine per family, because the same resource id means different endpoints.
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
    pub async fn open_on(
        &self,
        wire: Arc<dyn Wire>,
        resource_id: &str,
        credential: Option<&Credential>,
        policy: &FamilyPolicy,
    ) -> Result<Opened, Failure> {
        let (keys, region) = keys::read(credential)?;
        let place = address::place(self.flavor, resource_id, policy, region.as_deref())?;
        let mut store = Store::new(place, keys, wire, Arc::clone(&self.clock));
        let met = store.meet().await?;
        let identity = identity(&store.place, &met);
        let head_works = connector::speaks_s3(&met.head);
        let reason =
            "the store does not report what the key may do besides listing; use a separate key or a session policy to limit it";
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

/// Two methods on one path. There is a second host only if the region is not known yet and decides the host.
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
    evidence.insert(
        "region_from".into(),
        json!(if met.discovered {
            "the store"
        } else if place.guessed {
            "default"
        } else {
            "policy or credential"
        }),
    );
    evidence.insert("head_status".into(), json!(met.head.status));
    if let Some(region) = met.head.header("x-amz-bucket-region") {
        evidence.insert("bucket_region".into(), json!(classify::printable(region)));
    }
    if let Some(server) = met.listed.header("server") {
        evidence.insert("server".into(), json!(classify::printable(server)));
    }
    if is_plain(&met.listed) {
        evidence.insert(
            "transport".into(),
            json!("plain http: others on the network can read the listings; the secret key is never sent"),
        );
    }
    connector::note_request_id(&mut evidence, &met.listed);
    evidence
}

fn is_plain(answer: &Answer) -> bool {
    answer.url.scheme() == "http"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Class, Timestamp};

    struct Never;

    impl Clock for Never {
        fn now(&self) -> Timestamp {
            Timestamp(0)
        }
    }

    fn calls(flavor: Flavor, id: &str, region: Option<&str>) -> Vec<String> {
        let policy = FamilyPolicy { region: region.map(str::to_string), ..FamilyPolicy::default() };
        let place = address::place(flavor, id, &policy, None).expect("a place");
        let line = |call: PlannedCall| format!("{} {}{}", call.method, call.host, call.path);
        planned(&place).into_iter().map(line).collect()
    }

    #[test]
    fn the_plan_names_every_host_that_may_be_called() {
        assert_eq!(
            calls(Flavor::Compatible, "https://minio.example:9000/acme/x", None),
            ["HEAD minio.example:9000/acme", "GET minio.example:9000/acme"]
        );
        assert_eq!(
            calls(Flavor::Aws, "acme", Some("eu-west-1")),
            ["HEAD acme.s3.eu-west-1.amazonaws.com/", "GET acme.s3.eu-west-1.amazonaws.com/"]
        );
        assert_eq!(
            calls(Flavor::Aws, "acme", None),
            [
                "HEAD acme.s3.us-east-1.amazonaws.com/",
                "GET acme.s3.us-east-1.amazonaws.com/",
                "HEAD acme.s3.<the bucket's region>.amazonaws.com/",
                "GET acme.s3.<the bucket's region>.amazonaws.com/",
            ]
        );
    }

    #[test]
    fn a_bare_bucket_is_accepted_before_the_policy_is_known() {
        let aws = ObjectEngine::new(Arc::new(Never));
        let own = ObjectEngine::compatible(Arc::new(Never));
        for engine in [&aws, &own] {
            assert_eq!(engine.accepts("acme"), Ok(()));
            assert_eq!(engine.need("acme"), Need::Required);
        }
        assert_eq!(own.accepts("https://minio.example/acme"), Ok(()));
        let class = |result: Result<(), Failure>| result.err().map(|failure| failure.class);
        assert_eq!(class(aws.accepts("https://minio.example/acme")), Some(Class::Misconfigured));
        assert_eq!(class(aws.accepts("Not A Bucket")), Some(Class::Misconfigured));
        assert_eq!(class(aws.accepts("arn:aws:s3:us-east-1:123456789012:accesspoint/x")), Some(Class::Unsupported));
    }
}
