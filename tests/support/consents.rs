//! The provider of consents as the daemon has it, with a vendor and a clock of the test.

use super::oauth_vendor::{CLIENT_SECRET, OAuthVendor};
use super::session::UnlimitedBudget;
use aam::clock::Clock;
use aam::credentials::redact::AttemptSecrets;
use aam::egress::Egress;
use aam::egress::resolve::SystemLookup;
use aam::families;
use aam::model::{ConnectionId, Failure, Locator, Timestamp};
use aam::policy::LoadedPolicy;
use aam::providers::consent::{
    CallbackQuery, ConsentContext, ConsentGiven, ConsentProblem, LinkListing, Proof, Prove, ProvedAccount,
};
use aam::providers::{CredentialRequest, Process, ProvidedCredential, Providers, Reading};
use aam::registry::Location;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// 32 bytes in base64.
pub const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
pub const OTHER_KEY: &str = "//////////////////////////////////////////8=";

/// A clock that stands still until the test moves it. The clock of the machine can be set; the monotonic one only advances.
pub struct TestClock {
    wall: AtomicI64,
    monotonic: AtomicI64,
}

impl TestClock {
    pub fn new() -> Arc<TestClock> {
        Arc::new(TestClock { wall: AtomicI64::new(1_790_000_000_000), monotonic: AtomicI64::new(0) })
    }

    pub fn advance(&self, time: Duration) {
        let ms = i64::try_from(time.as_millis()).expect("a short time");
        self.wall.fetch_add(ms, Ordering::SeqCst);
        self.monotonic.fetch_add(ms, Ordering::SeqCst);
    }

    /// Sets the clock of the machine forward or back.
    pub fn jump(&self, ms: i64) {
        self.wall.fetch_add(ms, Ordering::SeqCst);
    }

    pub fn elapsed(&self) -> i64 {
        self.monotonic.load(Ordering::SeqCst)
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.wall.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic.load(Ordering::SeqCst).unsigned_abs())
    }
}

/// One process with its consents, a vendor, and one connection.
#[derive(Clone)]
pub struct Consents {
    pub vendor: OAuthVendor,
    pub clock: Arc<TestClock>,
    pub dir: Arc<tempfile::TempDir>,
    pub providers: Arc<Providers>,
    pub loaded: LoadedPolicy,
    pub request: CredentialRequest,
    /// The registry that has the consents, instead of a file.
    registry: Option<Location>,
}

impl Consents {
    pub async fn new() -> Consents {
        Consents::at(None).await
    }

    /// With the consents in `registry`, if that is a database.
    pub async fn in_registry(registry: Location) -> Consents {
        Consents::at(Some(registry)).await
    }

    async fn at(registry: Option<Location>) -> Consents {
        let clock = TestClock::new();
        // The vendor has a right clock, which is never set.
        let vendor_clock = Arc::clone(&clock);
        let vendor = OAuthVendor::start(move || Timestamp(1_790_000_000_000 + vendor_clock.elapsed())).await;
        let dir = Arc::new(tempfile::tempdir().expect("a folder"));
        Consents::with(vendor, clock, (dir, registry), KEY, |text| text)
    }

    /// The same store and vendor as another process has them, for example after a restart.
    pub fn restarted(&self) -> Consents {
        self.changed(KEY, |text| text)
    }

    /// As [`Consents::restarted`], with another key or policy.
    pub fn changed(&self, key: &str, change: impl FnOnce(String) -> String) -> Consents {
        let place = (Arc::clone(&self.dir), self.registry.clone());
        Consents::with(self.vendor.clone(), Arc::clone(&self.clock), place, key, change)
    }

    fn with(
        vendor: OAuthVendor,
        clock: Arc<TestClock>,
        (dir, registry): (Arc<tempfile::TempDir>, Option<Location>),
        key: &str,
        change: impl FnOnce(String) -> String,
    ) -> Consents {
        let store = dir.path().join("private/consents.json");
        let text = format!(
            "version: 1\nallowlist: [openapi]\nnetwork: {{allow_private: [127.0.0.0/8]}}\nsafe_mode: {{step_timeout: 20s}}\nbreaker: {{failures: 1000, open_for: 1s}}\n{}",
            vendor.policy(&store.display().to_string())
        );
        let unlimited = "  caps: {tokens: {per_second: 1000, burst: 100000, per_day: 1000000, concurrency: 16}}\n";
        let policy = aam::policy::parse::parse(&change(text + unlimited), "policy.yaml");
        let loaded = LoadedPolicy::new(policy.unwrap_or_else(|problems| panic!("{problems:?}")));
        let shared: Arc<dyn Clock> = clock.clone();
        let egress = Egress::with(Arc::new(UnlimitedBudget), Arc::clone(&shared), Arc::new(SystemLookup));
        let key = key.to_string();
        let env = move |name: &str| match name {
            "CONSENT_KEY" => Some(key.clone()),
            "THINGS_SECRET" => Some(CLIENT_SECRET.to_string()),
            _ => None,
        };
        let providers = Providers::with_env(egress, shared, Process::Recording, Arc::new(env));
        if let Some(registry) = &registry {
            providers.consents().keep_in(registry);
        }
        let resource = format!("{}/openapi.json", vendor.base);
        let request = CredentialRequest {
            locator: Locator::parse("consent:things").expect("a locator"),
            connection: ConnectionId::derive("autonomy", "openapi", std::slice::from_ref(&resource)),
            namespace: "autonomy".to_string(),
            owner: "owner@acme.example".to_string(),
            family: Arc::clone(families::find("openapi").expect("a family")),
            resource_ids: vec![resource].into(),
            policy: Arc::clone(&loaded.policy),
            reading: Reading::Cached,
        };
        Consents { vendor, clock, dir, providers, loaded, request, registry }
    }

    pub fn store(&self) -> PathBuf {
        self.dir.path().join("private/consents.json")
    }

    pub fn context(&self) -> ConsentContext<'_> {
        ConsentContext {
            providers: &self.providers,
            policy: Arc::clone(&self.loaded.policy),
            sources: Arc::clone(&self.loaded.sources),
        }
    }

    pub async fn link(&self) -> LinkListing {
        self.providers.consents().link_for(&self.context(), &self.request).await.expect("a link")
    }

    /// The id of the current link.
    pub async fn link_id(&self) -> String {
        self.link().await.url.expect("a URL").rsplit('/').next().expect("an id").to_string()
    }

    /// Clicks the button of the current link; returns the query with which the vendor calls back.
    pub async fn click(&self) -> String {
        let id = self.link_id().await;
        let url = self.providers.consents().begin(&self.context(), &id).await.expect("a URL");
        self.vendor.consent(url.as_str()).await
    }

    pub async fn complete(&self, query: &str, prove: Prove<'_>) -> Result<ConsentGiven, ConsentProblem> {
        self.providers.consents().complete(&self.context(), &CallbackQuery::parse(query), prove).await
    }

    /// Gives consent, as the owner does.
    pub async fn give(&self) -> ConsentGiven {
        let query = self.click().await;
        self.complete(&query, proven()).await.unwrap_or_else(|problem| panic!("{problem:?}"))
    }

    pub async fn provide(&self) -> Result<ProvidedCredential, Failure> {
        AttemptSecrets::new(&[]).run(self.providers.provide(&self.request)).await
    }

    /// Provides a credential and calls the API with it; returns the status.
    pub async fn call(&self) -> Result<u16, Failure> {
        let provided = self.provide().await?;
        let token = provided.credential.plain().expect("a token").expose().to_string();
        let client = reqwest::Client::builder().no_proxy().build().expect("client");
        let response = client.get(format!("{}/things", self.vendor.base)).bearer_auth(token).send().await;
        Ok(response.expect("a response").status().as_u16())
    }

    /// Puts another file in the place of the store.
    pub fn replace_store(&self, bytes: &[u8]) {
        let draft = self.store().with_extension("other");
        std::fs::write(&draft, bytes).expect("written");
        std::fs::rename(draft, self.store()).expect("renamed");
    }

    /// The content of the store as JSON.
    pub fn stored(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.store()).expect("a file")).expect("JSON")
    }

    /// Fails if a refresh token was sent twice or an access token was used after its end.
    pub fn assert_no_misuse(&self) {
        let state = self.vendor.state();
        assert_eq!((state.reuses, state.late_uses), (0, 0), "refresh tokens sent: {:?}", state.sent);
    }
}

/// A proof that passes.
pub fn proven<'a>() -> Prove<'a> {
    proof(|_| Ok(ProvedAccount::default()))
}

/// A proof that ends with the result of `check`.
pub fn proof<'a>(check: impl FnOnce(Proof) -> Result<ProvedAccount, Failure> + Send + 'a) -> Prove<'a> {
    Box::new(move |proof| Box::pin(std::future::ready(check(proof))))
}
