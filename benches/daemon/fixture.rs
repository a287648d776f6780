//! Intents, data and policy in a temporary folder.

use crate::{Measured, connectors, replicas};
use aam::model::Digest;
use std::fs;
use std::path::{Path, PathBuf};

/// The API token of the bench. The policy contains only its digest.
pub const TOKEN: &str = "bench";

/// The number of secrets that the intents with credentials share.
pub const SECRETS: usize = 100;

/// The connector that runs as a process, in a folder of its own, which it can read.
const CONNECTOR: &str = "connector/connector.py";

/// The name of the folder with the sources.
const DATA: &str = "data";

/// A temporary folder with intents, sources, policy and registries. It is removed at the end.
pub struct Fixture {
    home: tempfile::TempDir,
    pub count: usize,
    /// The policy without `reconcile` and `api`.
    policy: String,
    database: Vec<u8>,
    table: String,
    /// The beginning of the locators of the intents.
    locator: Option<String>,
}

impl Fixture {
    /// `count` intents, half of SQLite files and half of CSV files.
    pub fn of_files(count: usize) -> Measured<Fixture> {
        let fixture = Fixture::empty(count, |home| {
            format!("allowlist: [filesource, jdbc]\nfiles: {{roots: [\"{}\"]}}\n", home.join(DATA).display())
        })?;
        for number in 0..count {
            fixture.save(number, &fixture.intents().join(name(number)))?;
        }
        Ok(fixture)
    }

    /// As [`Fixture::of_files`], and each intent names one of [`SECRETS`] locators, which begin with `locator`. `credentials`
    /// is that section of the policy.
    pub fn of_files_with_credentials(count: usize, locator: &str, credentials: &str) -> Measured<Fixture> {
        let mut fixture = Fixture::empty(count, |home| {
            format!(
                "allowlist: [filesource, jdbc]\nfiles: {{roots: [\"{}\"]}}\nnetwork: {{allow_private: [127.0.0.0/8]}}\ncredentials: {credentials}\n",
                home.join(DATA).display()
            )
        })?;
        fixture.locator = Some(locator.to_string());
        for number in 0..count {
            fixture.save(number, &fixture.intents().join(name(number)))?;
        }
        Ok(fixture)
    }

    /// `count` intents whose credential does not exist: the daemon accepts them and does not call their sources.
    pub fn of_known(count: usize) -> Measured<Fixture> {
        let fixture = Fixture::empty(count, |_| "allowlist: [slack]\n".to_string())?;
        for number in 0..count {
            let text = intent("slack", &format!("workspace_T{number:06}"), Some("env:BENCH_NOT_SET"));
            fs::write(fixture.intents().join(name(number)), text)?;
        }
        Ok(fixture)
    }

    /// `count` intents of a manifest whose server listens on `port`. Each has its own host, which is its account, so the
    /// default caps apply to each connection separately.
    pub fn of_distant(count: usize, port: u16) -> Measured<Fixture> {
        let fixture = Fixture::empty(count, |home| {
            format!(
                "allowlist: [directory]\nnetwork: {{allow_private: [127.0.0.0/8]}}\nmanifests: {{dir: \"{}\"}}\n",
                home.join("manifests").display()
            )
        })?;
        let manifests = fixture.home().join("manifests");
        fs::create_dir(&manifests)?;
        fs::write(manifests.join("directory.yaml"), include_str!("directory.yaml"))?;
        for number in 0..count {
            let (high, low) = (number / 250, number % 250 + 1);
            let text = intent("directory", &format!("base_url=http://127.1.{high}.{low}:{port}"), Some("env:BENCH_DIRECTORY"));
            fs::write(fixture.intents().join(name(number)), text)?;
        }
        Ok(fixture)
    }

    /// `count` intents of Okta, whose calls go to the sandbox at `proxy`, each with an account of its own.
    pub fn of_okta(count: usize, proxy: &str, authority: &Path) -> Measured<Fixture> {
        let fixture = Fixture::empty(count, |_| {
            format!(
                "allowlist: [okta]\nnetwork: {{proxy: \"http://{proxy}\", ca_file: \"{}\", allow_private: [127.0.0.0/8]}}\n",
                authority.display()
            )
        })?;
        let locator = format!("env:{}", replicas::credential().0);
        for number in 0..count {
            let text = intent("okta", &format!("n{number}-acme.okta.com"), Some(&locator));
            fs::write(fixture.intents().join(name(number)), text)?;
        }
        Ok(fixture)
    }

    /// `count` intents of a connector that runs as a process of its own.
    pub fn of_connectors(count: usize) -> Measured<Fixture> {
        let python = connectors::python()?;
        let fixture = Fixture::empty(count, |home| {
            format!(
                "allowlist: [tenants]\nairbyte:\n  dir: \"{}\"\n  memory: {}MiB\n  connectors:\n    tenants:\n      run: [\"{python}\", \"{}\"]\n      config: {{tenant: \"{{resource_id}}\"}}\n      memory: {}MiB\n",
                home.join("airbyte").display(),
                connectors::TOGETHER_MIB,
                home.join(CONNECTOR).display(),
                connectors::EACH_MIB
            )
        })?;
        fs::create_dir(fixture.home().join("connector"))?;
        fs::write(fixture.connector(), include_str!("connector.py"))?;
        for number in 0..count {
            fs::write(fixture.intents().join(name(number)), intent("tenants", &format!("tenant-{number}"), None))?;
        }
        Ok(fixture)
    }

    /// The connector of [`Fixture::of_connectors`].
    pub fn connector(&self) -> PathBuf {
        self.home().join(CONNECTOR)
    }

    fn empty(count: usize, policy: impl FnOnce(&Path) -> String) -> Measured<Fixture> {
        let home = tempfile::Builder::new().prefix("aam-bench").tempdir()?;
        let policy = policy(home.path());
        let fixture = Fixture { database: database(home.path())?, table: table(), home, count, policy, locator: None };
        fs::create_dir(fixture.intents())?;
        fs::create_dir(fixture.data())?;
        fs::create_dir(fixture.home.path().join("policy"))?;
        fs::create_dir(fixture.home.path().join("registry"))?;
        fixture.resync("30s")?;
        Ok(fixture)
    }

    /// Writes the policy with `pace` as `reconcile.resync`, the time between two full scans of the folder.
    pub fn resync(&self, pace: &str) -> Measured<()> {
        self.write(&format!("resync: {pace}, concurrency: 256"))
    }

    /// Writes the policy with `concurrency` as `reconcile.concurrency`, or without it, so that the default applies.
    pub fn bound(&self, concurrency: Option<usize>) -> Measured<()> {
        self.write(&concurrency.map(|concurrency| format!("concurrency: {concurrency}")).unwrap_or_default())
    }

    fn write(&self, reconcile: &str) -> Measured<()> {
        let digest = Digest::from_bytes(TOKEN.as_bytes());
        let policy = format!(
            "version: 1\n{}reconcile: {{{reconcile}}}\n\
             recheck: {{health: 24h, drift: 24h, awaiting_credentials: 24h}}\n\
             api: {{rate: {{per_second: 1000000, burst: 1000000}}, tokens: [{{name: bench, sha256: \"{digest}\", scopes: [\"registry:read\"], namespaces: [autonomy]}}]}}\n",
            self.policy
        );
        fs::write(self.policy(), policy)?;
        Ok(())
    }

    /// The intents folder.
    pub fn intents(&self) -> PathBuf {
        self.home.path().join("intents")
    }

    /// The policy file.
    pub fn policy(&self) -> PathBuf {
        self.home.path().join("policy/policy.yaml")
    }

    /// The path of the registry `name`.
    pub fn registry(&self, name: &str) -> PathBuf {
        self.home.path().join(format!("registry/{name}.db"))
    }

    /// The folder of the sources.
    pub fn data(&self) -> PathBuf {
        self.home.path().join(DATA)
    }

    /// The temporary folder itself.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The source file of intent `number`.
    pub fn source(&self, number: usize) -> PathBuf {
        self.data().join(if number.is_multiple_of(2) { format!("{number}.csv") } else { format!("{number}.db") })
    }

    /// Writes source and intent `number`; the intent goes to `path`.
    pub fn save(&self, number: usize, path: &Path) -> Measured<()> {
        let source = self.source(number);
        let shown = source.display();
        let locator = self.locator.as_ref().map(|locator| format!("{locator}{}", number % SECRETS));
        let locator = locator.as_deref();
        let text = if number.is_multiple_of(2) {
            fs::write(&source, &self.table)?;
            intent("filesource", &shown.to_string(), locator)
        } else {
            fs::write(&source, &self.database)?;
            intent("jdbc", &format!("jdbc:sqlite:{shown}"), locator)
        };
        fs::write(path, text)?;
        Ok(())
    }
}

/// The file of intent `number`.
pub fn name(number: usize) -> String {
    format!("{number:06}.json")
}

fn intent(family: &str, resource: &str, locator: Option<&str>) -> String {
    serde_json::json!({
        "source_type": family, "resource_ids": [resource], "scopes_mode": "safe_readonly", "credential_locator": locator,
        "namespace": "autonomy", "risk_level": "low",
        "evidence": {"status": "Sanctioned", "source": "CMDB", "ts": "2026-11-08T18:00:00Z"},
        "owner": {"user": "owner@acme.example", "confidence": 0.9, "why": "admin"}
    })
    .to_string()
}

fn database(home: &Path) -> Measured<Vec<u8>> {
    let path = home.join("template.db");
    let base = rusqlite::Connection::open(&path)?;
    base.execute_batch(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, joined TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30)
         INSERT INTO people SELECT i, 'name ' || i, '2026-01-01' FROM n;",
    )?;
    base.close().map_err(|(_, error)| error)?;
    Ok(fs::read(path)?)
}

fn table() -> String {
    let rows: String = (1..=30).map(|row| format!("{row},name {row},{row}.5\n")).collect();
    format!("id,name,amount\n{rows}")
}
