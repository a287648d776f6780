//! Mints the credential of one service principal as the daemon does, with a real egress.

use crate::support::session::UnlimitedBudget;
use aam::clock::{Clock, SystemClock};
use aam::credentials::redact::AttemptSecrets;
use aam::egress::Egress;
use aam::egress::resolve::SystemLookup;
use aam::model::{ConnectionId, Failure, Locator, Timestamp};
use aam::providers::{CredentialRequest, Process, ProvidedCredential, Providers, Reading};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// The clock of the machine with an offset in milliseconds.
struct ShiftedClock(i64);

impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        Timestamp(SystemClock.now().0 + self.0)
    }
}

/// A service principal called `it`, and the environment that has its secrets.
pub struct Minting {
    providers: Arc<Providers>,
    pub request: CredentialRequest,
    env: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Minting {
    /// `principal` is its entry in the policy, in one line of YAML.
    pub fn new(principal: &str, env: &[(&str, &str)]) -> Minting {
        Minting::at(0, principal, env)
    }

    /// As [`Minting::new`], with a clock that is `shift` milliseconds ahead.
    pub fn at(shift: i64, principal: &str, env: &[(&str, &str)]) -> Minting {
        let clock: Arc<dyn Clock> = Arc::new(ShiftedClock(shift));
        let text = format!(
            "version: 1\nallowlist: [openapi]\nnetwork: {{allow_private: [127.0.0.0/8]}}\n\
             credentials: {{principals: {{it: {principal}}}}}\n"
        );
        let policy = aam::policy::parse::parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{text}: {problems:#?}"));
        let egress = Egress::with(Arc::new(UnlimitedBudget), Arc::clone(&clock), Arc::new(SystemLookup));
        let env: BTreeMap<String, String> = env.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect();
        let env = Arc::new(Mutex::new(env));
        let read = Arc::clone(&env);
        let read_env = Arc::new(move |name: &str| read.lock().expect("unpoisoned").get(name).cloned());
        let request = CredentialRequest {
            locator: Locator::parse("sp:it").expect("a locator"),
            connection: ConnectionId::derive("autonomy", "openapi", &["one".to_string()]),
            namespace: "autonomy".to_string(),
            owner: "owner@acme.example".to_string(),
            family: Arc::clone(aam::families::find("openapi").expect("a family")),
            resource_ids: Arc::from(["one".to_string()]),
            policy: Arc::new(policy),
            reading: Reading::Cached,
        };
        Minting { providers: Providers::with_env(egress, clock, Process::Test, read_env), request, env }
    }

    /// Changes a variable of the environment.
    pub fn set(&self, name: &str, value: &str) {
        self.env.lock().expect("unpoisoned").insert(name.to_string(), value.to_string());
    }

    pub async fn mint(&self) -> Result<ProvidedCredential, Failure> {
        AttemptSecrets::new(&[]).run(self.providers.provide(&self.request)).await
    }

    /// A field of the credential.
    pub async fn field(&self, name: &str) -> String {
        let provided = self.mint().await.unwrap_or_else(|failure| panic!("{failure:?}"));
        provided
            .credential
            .field(name)
            .unwrap_or_else(|| panic!("no field {name}: {:?}", provided.credential))
            .expose()
            .to_string()
    }

    /// The refusal.
    pub async fn refused(&self) -> Failure {
        match self.mint().await {
            Ok(provided) => panic!("minted {:?}", provided.credential.field_names()),
            Err(failure) => failure,
        }
    }
}
