//! Sessions of the engine `mongo` with names that the test defines.

use super::mongo::{PASSWORD, USER};
use super::session::UnlimitedBudget;
use super::sql::policy;
use aam::clock::SystemClock;
use aam::connectors::Opened;
use aam::connectors::mongo::MongoEngine;
use aam::credentials::{Credential, Secret};
use aam::egress::resolve::{Lookup, ServiceHost};
use aam::egress::{Caller, Egress};
use aam::model::{ConnectionId, Failure};
use aam::policy::Policy;
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

/// Names that the test defines, in place of DNS.
#[derive(Default)]
pub struct Names {
    /// The addresses of hosts.
    pub hosts: HashMap<String, IpAddr>,
    /// The hosts of SRV records.
    pub services: HashMap<String, Vec<ServiceHost>>,
    pub texts: HashMap<String, Vec<String>>,
    /// Every host that was looked up.
    pub asked: Mutex<Vec<String>>,
}

impl Lookup for Names {
    fn lookup<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.asked.lock().expect("no panic").push(host.to_string());
        let found = self.hosts.get(host).map(|address| vec![*address]);
        Box::pin(async move { found.ok_or_else(|| io::ErrorKind::NotFound.into()) })
    }

    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<ServiceHost>>> {
        let found = self.services.get(name).cloned();
        Box::pin(async move { found.ok_or_else(|| io::ErrorKind::NotFound.into()) })
    }

    fn texts<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<String>>> {
        let found = self.texts.get(name).cloned().unwrap_or_default();
        Box::pin(async move { Ok(found) })
    }
}

/// Opens the database of the resource id `id` with a session that may have one connection at a time, as in the daemon.
pub async fn open_with(id: &str, credential: Option<&Credential>, policy: Policy, names: Arc<Names>) -> Result<Opened, Failure> {
    let policy = Arc::new(policy);
    let mut cap = policy.caps.default.clone();
    cap.concurrency = 1;
    let egress = Egress::with(Arc::new(UnlimitedBudget), Arc::new(SystemClock), names);
    let session = egress.session(Caller {
        purpose: aam::model::CallPurpose::Source,
        connection: ConnectionId::derive("autonomy", "mongo", &["a test".to_string()]),
        family: "mongo".into(),
        account: "a test".to_string(),
        cap,
        policy: Arc::clone(&policy),
        posts: Arc::default(),
    });
    MongoEngine.open_through(Arc::new(session), id, credential, policy).await
}

/// As [`open_with`], with the credential of [`USER`] and addresses only.
pub async fn open(id: &str) -> Result<Opened, Failure> {
    open_with(id, Some(&credential(PASSWORD)), policy(None), Arc::default()).await
}

pub fn credential(password: &str) -> Credential {
    Credential::read(Secret::new(format!("{USER}:{password}")))
}

/// The failure of [`open`].
pub async fn refused(id: &str) -> Failure {
    open(id).await.err().unwrap_or_else(|| panic!("{id} was opened"))
}
