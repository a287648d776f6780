//! Signed calls on one bucket. The calls are `HEAD` and `ListObjectsV2`; objects themselves are never read.

use super::address::ObjectLocation;
use super::classify::{self, RefusedCall};
use super::list::ObjectListing;
use super::sigv4::{self, EMPTY_BODY, Keys, Scope, Unsigned};
use crate::clock::Clock;
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
    pub after: Option<&'a str>,
    pub max_bytes: u64,
}

impl ListingPage<'_> {
    /// The first page of a listing, with at most `max_keys` keys that are not grouped.
    #[must_use]
    pub fn flat(max_keys: u32) -> ListingPage<'static> {
        ListingPage { max_keys, folders: false, after: None, max_bytes: MAX_BODY_BYTES }
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
                Ok((_, listed)) => {
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
        if !self.place.prefix.is_empty() {
            query.push(("prefix", &self.place.prefix));
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
