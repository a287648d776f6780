//! Signed calls on one bucket. The calls are `HEAD` and `ListObjectsV2`; objects themselves are never read.

use super::address::ObjectLocation;
use super::classify::{self, RefusedCall, printable};
use super::list::ObjectListing;
use crate::clock::Clock;
use crate::credentials::sigv4::{self, EMPTY_BODY, Keys, Scope, Unsigned};
use crate::egress::{HttpRequest, HttpResponse, Method, Session, Traffic};
use crate::model::{Class, Failure};
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Limit on the bytes of a response. A page of 1000 URL-encoded keys of 1024 bytes each stays below it.
const MAX_BODY_BYTES: u64 = 8 << 20;

/// Limit on how often AAM follows the region that the store names, because a store might keep naming other regions.
const MAX_REGION_CHANGES: usize = 2;

/// Sends requests. In production this is the [`Session`] of the attempt; tests record the requests.
pub trait HttpTransport: Send + Sync {
    /// Sends one request.
    ///
    /// # Errors
    /// The errors of [`Session::http`].
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, Failure>>;

    /// The calls and bytes so far.
    fn traffic(&self) -> Traffic;
}

impl HttpTransport for Session {
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, Failure>> {
        Box::pin(self.http(request))
    }

    fn traffic(&self) -> Traffic {
        Session::traffic(self)
    }
}

/// The parameters of one page of a listing.
#[derive(Clone, Copy, Debug)]
pub struct ListingPage<'a> {
    pub max_keys: u32,
    /// Whether to group the keys by `/`.
    pub folders: bool,
    /// The prefix of the keys; `None` for the prefix of the resource id.
    pub prefix: Option<&'a str>,
    pub after: Option<&'a str>,
    pub max_bytes: u64,
}

impl ListingPage<'_> {
    /// The first page of a listing, with at most `max_keys` keys that are not grouped.
    #[must_use]
    pub fn flat(max_keys: u32) -> ListingPage<'static> {
        ListingPage { max_keys, folders: false, prefix: None, after: None, max_bytes: MAX_BODY_BYTES }
    }
}

/// A bucket and the access key for it.
pub struct Store {
    pub place: ObjectLocation,
    pub wire: Arc<dyn HttpTransport>,
    keys: Keys,
    clock: Arc<dyn Clock>,
}

/// The responses that found the region of the bucket and proved its name.
pub struct BucketProof {
    /// The response to `HEAD`. It may be an error, because some keys may list a prefix but may not access the bucket.
    pub head: HttpResponse,
    pub listed: HttpResponse,
    /// Whether the store named the region.
    pub discovered: bool,
}

impl Store {
    /// Creates the store. Nothing is sent yet.
    #[must_use]
    pub fn new(place: ObjectLocation, keys: Keys, wire: Arc<dyn HttpTransport>, clock: Arc<dyn Clock>) -> Store {
        Store { place, wire, keys, clock }
    }

    /// Finds the bucket, following the region that the store names, and proves that the response is the listing of this
    /// bucket.
    ///
    /// # Errors
    /// The errors of the store and of the transport.
    pub async fn meet(&mut self) -> Result<BucketProof, Failure> {
        let mut discovered = false;
        for _ in 0..=MAX_REGION_CHANGES {
            let head = self.head().await?;
            if head.status != 200 && self.follow(head.header("x-amz-bucket-region")) {
                discovered = true;
                continue;
            }
            // A listing always follows, because a failed HEAD does not report the reason and any web server may return 200.
            match self.list(ListingPage::flat(1)).await {
                Ok((listing, listed)) => {
                    self.check_prefix(&listing).await?;
                    return Ok(BucketProof { head, listed, discovered });
                }
                Err(refused) if self.follow(refused.region.as_deref()) => discovered = true,
                Err(refused) => return Err(refused.failure),
            }
        }
        let title = format!("{} keeps naming other regions for bucket {}", self.place.host(), self.place.bucket);
        let fix = format!("set families.{}.region in the policy to the bucket's region", self.place.flavor.family());
        Err(Failure::new(Class::Misconfigured, title, fix))
    }

    /// Checks that the folder of the resource id has keys. A bucket may be empty, but a folder without keys does not exist:
    /// object stores have no folders of their own.
    ///
    /// # Errors
    /// `NotFound`, or `Misconfigured` if the resource id names an object.
    pub async fn check_prefix(&self, listing: &ObjectListing) -> Result<(), Failure> {
        if self.place.prefix.is_empty() || !listing.objects.is_empty() || !listing.prefixes.is_empty() {
            return Ok(());
        }
        let name = self.place.prefix.trim_end_matches('/');
        // A key may be allowed to list only the folder. Then nothing is known about what stands beside it.
        let beside = ListingPage { prefix: Some(name), ..ListingPage::flat(1) };
        let beside = self.list(beside).await.ok().and_then(|(listing, _)| listing.objects.into_iter().next());
        Err(missing_prefix(&self.place, name, beside.as_ref().map(|object| object.key.as_str())))
    }

    /// Switches to `region`. Returns `false` if no region is given or it is the current one.
    fn follow(&mut self, region: Option<&str>) -> bool {
        match region.and_then(|region| self.place.moved(region)) {
            Some(place) => {
                self.place = place;
                true
            }
            None => false,
        }
    }

    /// `HEAD` on the bucket.
    ///
    /// # Errors
    /// The errors of the transport. An HTTP error status is not an error here.
    pub async fn head(&self) -> Result<HttpResponse, Failure> {
        self.call(Method::Head, &[], MAX_BODY_BYTES).await
    }

    /// One page of the bucket's listing below the prefix.
    ///
    /// # Errors
    /// The errors of the store and of the transport.
    pub async fn list(&self, page: ListingPage<'_>) -> Result<(ObjectListing, HttpResponse), RefusedCall> {
        let max_keys = page.max_keys.to_string();
        let mut query = vec![("list-type", "2"), ("encoding-type", "url"), ("max-keys", &max_keys)];
        let prefix = page.prefix.unwrap_or(&self.place.prefix);
        if !prefix.is_empty() {
            query.push(("prefix", prefix));
        }
        if page.folders {
            query.push(("delimiter", "/"));
        }
        if let Some(token) = page.after {
            query.push(("continuation-token", token));
        }
        let signed_at = self.clock.now();
        let answer = self.call(Method::Get, &query, page.max_bytes).await?;
        let listing = classify::listing(&self.place, &answer, signed_at)?;
        Ok((listing, answer))
    }

    async fn call(&self, method: Method, query: &[(&str, &str)], max_bytes: u64) -> Result<HttpResponse, Failure> {
        let mut url = self.place.url()?;
        if !query.is_empty() {
            let pair = |(name, value): &(&str, &str)| format!("{name}={}", sigv4::encode_query(value));
            url.set_query(Some(&query.iter().map(pair).collect::<Vec<_>>().join("&")));
        }
        let unsigned = Unsigned { method: method.as_str(), url: &url, headers: &[], payload_sha256: EMPTY_BODY };
        let scope = Scope { service: "s3", region: &self.place.region };
        let headers = sigv4::sign(unsigned, &self.keys, scope, self.clock.now());
        // The signature is valid only for this URL, so AAM does not follow redirects. It follows the region that the store names.
        self.wire.send(HttpRequest { method, url, headers, max_bytes, follow_redirects: false }).await
    }
}

/// The failure for a folder without keys. `beside` is the first key of the bucket that begins with `name`, the folder
/// without its final `/`.
fn missing_prefix(place: &ObjectLocation, name: &str, beside: Option<&str>) -> Failure {
    let bucket = &place.bucket;
    if beside == Some(name) {
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        return Failure::new(
            Class::Misconfigured,
            format!("{bucket}/{} is an object, but aam registers buckets and folders", printable(name)),
            format!("name the folder of the object in resource_ids: {}", place.resource_id(&printable(folder))),
        );
    }
    let title = format!("bucket {bucket} has no keys below {}", printable(&place.prefix));
    let end = beside.and_then(|key| key.get(name.len()..)?.find('/').map(|end| name.len() + end));
    let fix = match beside.zip(end).and_then(|(key, end)| key.get(..end)) {
        Some(folder) => format!(
            "correct the folder in resource_ids; the bucket has another one of a similar name: {}",
            place.resource_id(&printable(folder))
        ),
        None => "correct the folder in resource_ids, or put objects there; aam retries automatically".to_string(),
    };
    Failure::new(Class::NotFound, title, fix)
}

#[cfg(test)]
mod tests {
    use super::super::address::{Flavor, place};
    use super::*;
    use crate::policy::FamilyPolicy;

    /// The failure for a key beside the missing folder, and the resource id in its fix.
    fn missing(flavor: Flavor, id: &str, beside: Option<&str>) -> (Class, String) {
        let place = place(flavor, id, &FamilyPolicy::default(), None).expect(id);
        let failure = missing_prefix(&place, place.prefix.trim_end_matches('/'), beside);
        (failure.class, failure.fix.rsplit(": ").next().unwrap_or_default().to_string())
    }

    #[test]
    fn the_fix_for_a_missing_folder_names_a_resource_id_that_is_accepted() {
        for (flavor, id, beside, class, named) in [
            (
                Flavor::Compatible,
                "http://127.0.0.1:9000/bucket/b/c.csv",
                "b/c.csv",
                Class::Misconfigured,
                "http://127.0.0.1:9000/bucket/b",
            ),
            (Flavor::Aws, "s3://bucket/c.csv", "c.csv", Class::Misconfigured, "s3://bucket"),
            (Flavor::Aws, "bucket/order", "orders/1.csv", Class::NotFound, "s3://bucket/orders"),
        ] {
            let (found, fix) = missing(flavor, id, Some(beside));
            assert_eq!((found, fix.as_str()), (class, named), "{id}");
            assert!(place(flavor, &fix, &FamilyPolicy::default(), None).is_ok(), "{fix}");
        }
        assert_eq!(missing(Flavor::Aws, "bucket/x", None).0, Class::NotFound);
        assert_eq!(missing(Flavor::Aws, "bucket/x", Some("xyz")).0, Class::NotFound);
    }
}
