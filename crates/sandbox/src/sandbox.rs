//! The vendors with everything that changes while the sandbox runs.

use crate::calls::Calls;
use crate::config::{Account, Vendor};
use crate::template::{Scope, value};
use minijinja::Value;
use minijinja::value::{Object, ObjectRepr};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The items that one dataset may have.
const MAX_ITEMS: u64 = 100_000;

/// When more datasets are cached, all are generated anew.
const MAX_CACHED_DATASETS: usize = 2000;

/// Datasets that use each other are generated this deep.
const MAX_DEPTH: usize = 8;

/// What is asked for on the command line.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Every answer is late by a time between these two.
    pub latency: Option<(Duration, Duration)>,
    /// The share of calls that fail, from 0 to 1.
    pub faults: f64,
    pub seed: u64,
    /// Vendors that are down for a while, counted from the start.
    pub outages: Vec<Outage>,
    /// Vendors that answer each so-many-th call with `throttled`.
    pub throttled: Vec<(String, u64)>,
}

/// A time in which all calls to a vendor are answered with 503.
#[derive(Clone, Debug)]
pub struct Outage {
    pub family: String,
    pub from: Duration,
    pub to: Duration,
}

pub struct Sandbox {
    pub vendors: Vec<Arc<Vendor>>,
    pub calls: Calls,
    pub options: RunOptions,
    pub minted: crate::minted::Minted,
    pub kept: crate::kept::Kept,
    counters: Mutex<HashMap<(usize, String, &'static str), u64>>,
    items: Arc<ItemCache>,
    random: Mutex<fastrand::Rng>,
    started: Instant,
    /// Origins of vendors and the plain addresses that stand for them.
    origins: RwLock<Vec<(String, String)>>,
}

type ItemCache = Mutex<HashMap<(usize, String, String), Arc<Vec<Value>>>>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or_default()
}

impl Sandbox {
    pub fn new(vendors: Vec<Vendor>, options: RunOptions) -> Sandbox {
        let seed = options.seed;
        Sandbox {
            vendors: vendors.into_iter().map(Arc::new).collect(),
            calls: Calls::default(),
            options,
            minted: crate::minted::Minted::default(),
            kept: crate::kept::Kept::default(),
            counters: Mutex::default(),
            items: Arc::default(),
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            started: Instant::now(),
            origins: RwLock::default(),
        }
    }

    /// Whether a vendor has this host.
    pub fn has_host(&self, host: &str) -> bool {
        self.vendors.iter().any(|vendor| vendor.hosts.iter().any(|pattern| pattern.captures(host).is_some()))
    }

    /// Counts one more call of `what` and returns the number of calls so far, this one included.
    pub fn count(&self, vendor: usize, account: &str, what: &'static str) -> u64 {
        let mut counters = locked(&self.counters);
        let count = counters.entry((vendor, account.to_owned(), what)).or_default();
        *count += 1;
        *count
    }

    /// Says that `address` answers for the host `host` by plain HTTP.
    pub fn add_origin(&self, host: &str, address: &str) {
        let pair = (format!("https://{}", host.to_ascii_lowercase()), format!("http://{address}"));
        self.origins.write().unwrap_or_else(PoisonError::into_inner).push(pair);
    }

    /// The text with the vendors' origins replaced by the plain addresses that stand for them. A caller that was given such an
    /// address as base URL must find it in links.
    pub fn outward(&self, text: &str) -> String {
        self.origins
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .fold(text.to_owned(), |text, (vendor, plain)| text.replace(vendor, plain))
    }

    /// The opposite of [`Sandbox::outward`].
    pub fn inward(&self, text: &str) -> String {
        self.origins
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .fold(text.to_owned(), |text, (vendor, plain)| text.replace(plain, vendor))
    }

    /// Whether the vendor is down now.
    pub fn is_out(&self, family: &str) -> bool {
        let passed = self.started.elapsed();
        self.options.outages.iter().any(|outage| outage.family == family && (outage.from..outage.to).contains(&passed))
    }

    /// Whether the account's call of this number is one of those that the vendor throttles.
    pub fn throttles(&self, family: &str, call: u64) -> bool {
        self.options.throttled.iter().any(|(throttled, each)| throttled == family && call.is_multiple_of(*each))
    }

    /// Whether this call fails by chance, and in which of `ways`.
    pub fn fault(&self, ways: usize) -> Option<usize> {
        if self.options.faults <= 0.0 {
            return None;
        }
        let mut random = locked(&self.random);
        (random.f64() < self.options.faults).then(|| random.usize(..ways.max(1)))
    }

    /// Letters and digits by chance.
    pub fn random_text(&self, length: usize) -> String {
        let mut random = locked(&self.random);
        (0..length).map(|_| random.alphanumeric()).collect()
    }

    /// How late this call is answered.
    pub fn latency(&self) -> Duration {
        let Some((least, most)) = self.options.latency else { return Duration::ZERO };
        let range = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(u64::MAX - 1);
        least + Duration::from_micros(locked(&self.random).u64(..=range))
    }

    /// The datasets of an account, as the name `data` of templates.
    pub fn data(&self, vendor: usize, account: &Account, host: &str) -> Arc<Data> {
        let vendor_data = self.vendors.get(vendor).map(Arc::clone);
        Arc::new(Data {
            index: vendor,
            vendor: vendor_data,
            account: account.clone(),
            host: host.to_owned(),
            cache: Arc::clone(&self.items),
            depth: 0,
        })
    }
}

/// Generates datasets when they are asked for.
pub struct Data {
    index: usize,
    vendor: Option<Arc<Vendor>>,
    account: Account,
    host: String,
    cache: Arc<ItemCache>,
    depth: usize,
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the datasets of {}", self.account.key)
    }
}

impl Object for Data {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match self.items(key.as_str()?) {
            Ok(items) => Some(Value::from(items.as_ref().clone())),
            // The error is met again, and reported, by the expression that uses the value.
            Err(error) => Some(Value::from(error)),
        }
    }
}

impl Data {
    /// The items of a dataset. A dataset that does not exist is empty.
    ///
    /// # Errors
    /// Fails if a template does, or if datasets use each other in a circle.
    pub fn items(self: &Arc<Self>, name: &str) -> Result<Arc<Vec<Value>>, minijinja::Error> {
        let key = (self.index, name.to_owned(), format!("{} {}", self.account.key, self.host));
        if let Some(items) = locked(&self.cache).get(&key) {
            return Ok(Arc::clone(items));
        }
        let items = Arc::new(self.generate(name)?);
        let mut cache = locked(&self.cache);
        // Names of hosts can be anything where a pattern captures more than the account.
        if cache.len() >= MAX_CACHED_DATASETS {
            cache.clear();
        }
        cache.insert(key, Arc::clone(&items));
        Ok(items)
    }

    fn generate(&self, name: &str) -> Result<Vec<Value>, minijinja::Error> {
        let Some(dataset) = self.vendor.as_ref().and_then(|vendor| vendor.datasets.get(name)) else {
            return Ok(Vec::new());
        };
        if self.depth >= MAX_DEPTH {
            let message = format!("the dataset {name} uses itself");
            return Err(minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, message));
        }
        let inner = Data {
            index: self.index,
            vendor: self.vendor.clone(),
            account: self.account.clone(),
            host: self.host.clone(),
            cache: Arc::clone(&self.cache),
            depth: self.depth + 1,
        };
        let mut scope = Scope::default();
        scope.set("host", self.host.as_str());
        scope.set_json("account", &self.account.data);
        scope.set("data", Value::from_object(inner));
        let change = |count: u64| match () {
            () if dataset.fixed => count,
            () if self.account.has("empty") => 0,
            () if self.account.has("many") || self.account.has("strayed") => crate::moods::MANY_ITEMS,
            () => count,
        };
        if let Some(items) = &dataset.items {
            let items = items.render(&scope)?.unwrap_or_default();
            let items = items.as_array().cloned().unwrap_or_default();
            let count = change(items.len() as u64).min(items.len() as u64);
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            return Ok(items.into_iter().take(count).map(|item| value(&item)).collect());
        }
        let written = match &dataset.count {
            Some(count) => count.render_text(&scope)?.trim().parse().unwrap_or(0),
            None => 12,
        };
        let mut items = Vec::new();
        for n in 1..=change(written).min(MAX_ITEMS) {
            scope.set("n", n);
            if let Some(item) = dataset.item.as_ref().map(|item| item.render(&scope)).transpose()?.flatten() {
                items.push(value(&item));
            }
        }
        Ok(items)
    }
}
