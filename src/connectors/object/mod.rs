//! Object storage: `s3` and `s3_compat`.
//!
//! The least privilege is `s3:ListBucket` and `s3:GetBucketLocation`, because the only calls are `HEAD` on the bucket and
//! `ListObjectsV2`. An attempt passes through [`address`] (from the resource id to bucket and endpoint), [`access_key`] (from
//! the credential to the access key), [`store`] (signed calls, region discovery), [`list`] (XML),
//! [`classify`] and [`codes`] (from a response to a failure) and [`connector`] (the open bucket).

pub mod address;
pub mod classify;
pub mod codes;
pub mod connector;
pub mod list;
pub mod store;

use super::{AuthorizedResource, BindRequest, BoundResource, CredentialNeed, Engine, Opened};
use crate::clock::Clock;
use crate::credentials::{Credential, access_key};
use crate::egress::{HttpResponse, PlannedCall};
use crate::model::{Evidence, Failure, Privilege, Recipient};
use crate::policy::FamilyPolicy;
use address::{Flavor, ObjectLocation};
use connector::Bucket;
use percent_encoding::percent_decode_str;
use serde_json::json;
use std::sync::Arc;
pub use store::HttpTransport;
use store::{BucketProof, Store};
use url::Url;

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

    /// Parses `resource_id`, as [`Engine::bind`] does.
    ///
    /// # Errors
    /// `Misconfigured` or `Unsupported` if the resource id would not be usable with any endpoint.
    pub fn bind_bucket(&self, resource_id: &str, policy: &FamilyPolicy) -> Result<BoundBucket, Failure> {
        let place = address::place(self.flavor, resource_id, policy, None);
        if place.is_err() {
            // The fault may be in the policy's endpoint or region instead of the resource id. The resource id is then accepted,
            // and opening the bucket reports the failure.
            let any_endpoint = FamilyPolicy { base_url: Some("https://endpoint.invalid".to_string()), ..FamilyPolicy::default() };
            address::place(self.flavor, resource_id, &any_endpoint, None)?;
        }
        let account = place.as_ref().map_or_else(|_| self.flavor.family().to_string(), ObjectLocation::host);
        let base_url = policy.base_url.clone();
        Ok(BoundBucket { place, account, base_url, clock: Arc::clone(&self.clock) })
    }

    /// Binds `resource_id` and opens it over any transport.
    ///
    /// # Errors
    /// `CredentialMissing` or `Misconfigured` before anything is sent; afterwards the failures that the store reports.
    pub async fn open_on(
        &self,
        wire: Arc<dyn HttpTransport>,
        resource_id: &str,
        credential: Option<&Credential>,
        policy: &FamilyPolicy,
    ) -> Result<Opened, Failure> {
        self.bind_bucket(resource_id, policy)?.open(wire, credential).await
    }
}

impl Engine for ObjectEngine {
    fn bind(&self, request: BindRequest<'_>) -> Result<Box<dyn BoundResource>, Failure> {
        Ok(Box::new(self.bind_bucket(request.resource_id, &request.policy.family(self.flavor.family()))?))
    }
}

/// A parsed resource id: a bucket and its endpoint.
pub struct BoundBucket {
    /// The location of the bucket, or what is wrong with the policy's endpoint or region.
    place: Result<ObjectLocation, Failure>,
    account: String,
    /// The endpoint that the policy names.
    base_url: Option<String>,
    clock: Arc<dyn Clock>,
}

impl BoundBucket {
    async fn open(self, wire: Arc<dyn HttpTransport>, credential: Option<&Credential>) -> Result<Opened, Failure> {
        let (keys, region) = access_key::read(credential)?;
        let place = self.place?.with_credential_region(region.as_deref())?;
        let mut store = Store::new(place, keys, wire, self.clock);
        let met = store.meet().await?;
        let identity = identity(&store.place, &met);
        let head_works = connector::speaks_s3(&met.head);
        let privilege = privilege(credential);
        Ok(Opened { connector: Box::new(Bucket { store, head_works }), identity, privilege, removal: Vec::new() })
    }
}

impl BoundResource for BoundBucket {
    fn credential_need(&self) -> CredentialNeed {
        CredentialNeed::Required
    }

    fn account(&self) -> &str {
        &self.account
    }

    fn free_hosts(&self) -> Vec<Recipient> {
        let free = self.place.as_ref().ok().filter(|place| place.is_chosen_by_intent(self.base_url.as_deref()));
        // The store names the region, so a host that contains it is not known yet.
        let places = free.map(|place| if place.host_follows_region() { place.in_unknown_region() } else { place.clone() });
        places.and_then(|place| place.url().ok()).and_then(|url| Recipient::from_url(&url)).into_iter().collect()
    }

    fn planned_calls(&self) -> Vec<PlannedCall> {
        self.place.as_ref().map_or_else(|_| Vec::new(), planned)
    }

    fn authorize(self: Box<Self>, credential: Option<Credential>) -> Result<AuthorizedResource, Failure> {
        Ok(AuthorizedResource::new(move |session| {
            Box::pin(async move { self.open(Arc::new(session), credential.as_ref()).await })
        }))
    }
}

/// The planned calls: two methods on the bucket's URL. If the store may name another region and the region is part of the
/// host, the same methods on that URL are planned too.
fn planned(place: &ObjectLocation) -> Vec<PlannedCall> {
    let elsewhere = (place.guessed && place.host_follows_region()).then(|| place.in_unknown_region());
    let urls = [place.url().ok(), elsewhere.and_then(|place| place.url().ok())];
    let calls = |url: &Url| {
        let (host, path) = (address::host_of(url), percent_decode_str(url.path()).decode_utf8_lossy().into_owned());
        ["HEAD", "GET"].map(|method| PlannedCall {
            method: method.to_string(),
            host: host.replace(address::UNKNOWN_REGION, "{region}"),
            path: path.replace(address::UNKNOWN_REGION, "{region}"),
        })
    };
    urls.iter().flatten().flat_map(calls).collect()
}

/// What the key may do besides reading. A store does not report this, but AWS has stated the limit of a session that it issued
/// with a session policy.
fn privilege(credential: Option<&Credential>) -> Privilege {
    if credential.is_some_and(Credential::is_read_only) {
        return Privilege::Ok;
    }
    let reason = "the store does not report what the key may do besides listing; use a separate key, or a service principal of the \
                  kind aws with role_arn, whose session policy allows reading only";
    Privilege::Unknown { reason: reason.to_string() }
}

fn identity(place: &ObjectLocation, met: &BucketProof) -> Evidence {
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

fn is_plain(answer: &HttpResponse) -> bool {
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
                "HEAD acme.s3.{region}.amazonaws.com/",
                "GET acme.s3.{region}.amazonaws.com/",
            ]
        );
    }

    #[test]
    fn a_bare_bucket_is_accepted_before_the_policy_is_known() {
        let aws = ObjectEngine::new(Arc::new(Never));
        let own = ObjectEngine::compatible(Arc::new(Never));
        let bind = |engine: &ObjectEngine, id: &str| engine.bind_bucket(id, &FamilyPolicy::default());
        for engine in [&aws, &own] {
            assert_eq!(bind(engine, "acme").map(|bound| bound.credential_need()), Ok(CredentialNeed::Required));
        }
        assert_eq!(bind(&own, "https://minio.example/acme").map(|bound| bound.account), Ok("minio.example".to_string()));
        let class = |result: Result<BoundBucket, Failure>| result.err().map(|failure| failure.class);
        assert_eq!(class(bind(&aws, "https://minio.example/acme")), Some(Class::NotMappable));
        assert_eq!(class(bind(&aws, "Not A Bucket")), Some(Class::NotMappable));
        assert_eq!(class(bind(&aws, "arn:aws:s3:us-east-1:123456789012:accesspoint/x")), Some(Class::Unsupported));
    }
}
