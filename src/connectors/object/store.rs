//! Signed calls on one bucket. Only `HEAD` and `ListObjectsV2`: no object is ever read.

use super::address::Place;
use super::classify::{self, Refused};
use super::list::Listing;
use super::sigv4::{self, EMPTY_BODY, Keys, Scope, Unsigned};
use crate::clock::Clock;
use crate::egress::{HttpRequest, HttpResponse, Method, Session, Traffic};
use crate::model::{Class, Failure};
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// A page of 1000 keys of 1024 bytes, URL-encoded and wrapped, stays below this.
const MAX_BODY: u64 = 8 << 20;

/// A bucket may be named wrongly once; a store that keeps pointing elsewhere is not followed.
const MAX_MOVES: usize = 2;

/// The way out. [`Session`] is the one of the program.
pub trait Wire: Send + Sync {
    /// Sends one request.
    ///
    /// # Errors
    /// As [`Session::http`].
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, Failure>>;

    /// Calls and bytes so far.
    fn traffic(&self) -> Traffic;
}

impl Wire for Session {
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, Failure>> {
        Box::pin(self.http(request))
    }

    fn traffic(&self) -> Traffic {
        Session::traffic(self)
    }
}

/// One page to ask for.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    pub max_keys: u32,
    /// Group keys by `/`.
    pub folders: bool,
    pub after: Option<&'a str>,
    pub max_bytes: u64,
}

impl Page<'_> {
    /// A page of at most `max_keys` keys, from the start, not grouped.
    #[must_use]
    pub fn flat(max_keys: u32) -> Page<'static> {
        Page { max_keys, folders: false, after: None, max_bytes: MAX_BODY }
    }
}

/// A bucket and the key to it.
pub struct Store {
    pub place: Place,
    pub wire: Arc<dyn Wire>,
    keys: Keys,
    clock: Arc<dyn Clock>,
}

/// What finding the bucket's region and proving its name gave.
pub struct Met {
    /// The answer to `HEAD`; some keys may list a prefix and not the bucket itself.
    pub head: HttpResponse,
    pub listed: HttpResponse,
    /// The region was told by the store.
    pub discovered: bool,
}

impl Store {
    /// Nothing is sent yet.
    #[must_use]
    pub fn new(place: Place, keys: Keys, wire: Arc<dyn Wire>, clock: Arc<dyn Clock>) -> Store {
        Store { place, wire, keys, clock }
    }

    /// Finds the bucket, following the region that the store names, and proves that the answer is
    /// the listing of this bucket.
    ///
    /// # Errors
    /// What the store says, or what the wire says.
    pub async fn meet(&mut self) -> Result<Met, Failure> {
        let mut discovered = false;
        for _ in 0..=MAX_MOVES {
            let head = self.head().await?;
            if head.status != 200 && self.follow(head.header("x-amz-bucket-region")) {
                discovered = true;
                continue;
            }
            // HEAD says nothing about why, and a 200 alone could be anybody's.
            match self.list(Page::flat(1)).await {
                Ok((_, listed)) => {
                    return Ok(Met { head, listed, discovered });
                }
                Err(refused) if self.follow(refused.region.as_deref()) => discovered = true,
                Err(refused) => return Err(refused.failure),
            }
        }
        let title = format!("{} sends from region to region for bucket {}", self.place.host(), self.place.bucket);
        let fix = format!("set families.{}.region in the policy to the bucket's region", self.place.flavor.family());
        Err(Failure::new(Class::Misconfigured, title, fix))
    }

    /// Moves to `region`; false when there is none or it is the present one.
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
    /// Those of the wire; a status is an answer.
    pub async fn head(&self) -> Result<HttpResponse, Failure> {
        self.call(Method::Head, &[], MAX_BODY).await
    }

    /// One page of the bucket's listing below the prefix.
    ///
    /// # Errors
    /// What the store says, or what the wire says.
    pub async fn list(&self, page: Page<'_>) -> Result<(Listing, HttpResponse), Refused> {
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
        // A redirect would carry the signature of another address; the region is followed instead.
        self.wire.send(HttpRequest { method, url, headers, max_bytes, follow_redirects: false }).await
    }
}
