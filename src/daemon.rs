//! Assembles the parts of one process: the registry, the policy, the demo seed, the engines and their environment.

use crate::clock::{self, Clock};
use crate::connectors::airbyte_platform::Installation;
use crate::connectors::{
    Engines, airbyte, airbyte_platform, file, lowcode, mongo, object, openapi, redshift, snowflake, sql, supabase,
};
use crate::egress::{Egress, resolve::SystemLookup};
use crate::intake::{Limits, schema, wire};
use crate::model::{DEMO_NAMESPACE, Intent, Origin, Problem};
use crate::operator_file;
use crate::pipeline::Env;
use crate::policy::airbyte::{PLATFORM_ENGINE, PROCESS_ENGINE};
use crate::policy::{ActivePolicy, LoadedPolicy, parse};
use crate::policy_loader::PolicyLoader;
use crate::providers::{Process, Providers};
use crate::reconcile::Handle;
use crate::registry::{Location, Registry, RegistryError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

/// The files and folders that a process uses.
#[derive(Clone, Debug)]
pub struct Paths {
    pub intents: PathBuf,
    pub policy: PathBuf,
    pub registry: Location,
    /// Documents of the demo namespace.
    pub seeds: PathBuf,
}

/// Why a process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("the policy is not valid and no earlier policy was accepted")]
    Policy(Vec<Problem>),
}

/// Opens the registry for writing, determines the policy in force, and loads the demo seed if it was never loaded.
///
/// # Errors
/// [`StartError`]. The registry is not left locked.
pub async fn open(paths: &Paths, command: &str, clock: Arc<dyn Clock>) -> Result<Arc<Handle>, StartError> {
    // While opening the registry waits for the disk, other threads read the policy and its manifests and compile the
    // schema.
    let (registry, file) = thread::scope(|scope| {
        let read = || PolicyLoader::new(&paths.policy).load().loaded;
        // If the system refuses a thread, the policy is read on this one afterwards.
        let file = thread::Builder::new().spawn_scoped(scope, read);
        let _ = thread::Builder::new().spawn_scoped(scope, schema::prepare);
        let registry = Registry::open(&paths.registry, command, clock);
        (registry, file.map_or_else(|_| read(), |file| file.join().unwrap_or_else(|_| read())))
    });
    let registry = registry?;
    let ledger_clock = registry.clock();
    let active = start_policy(file, &paths.policy, &registry, ledger_clock.as_ref())?;
    let registry = Arc::new(registry);
    let handle = Handle::new(registry, ledger_clock, active, paths.intents.clone(), paths.policy.clone());
    seed(&handle.registry, &paths.seeds).await?;
    Ok(handle)
}

/// The policy of the file or, if it is not valid, the last accepted policy together with the problems of the file.
fn start_policy(
    file: Result<LoadedPolicy, Vec<Problem>>,
    path: &Path,
    registry: &Registry,
    clock: &dyn Clock,
) -> Result<ActivePolicy, StartError> {
    let known = registry.snapshot().policy.filter(|_| file.is_err());
    let text = known.map_or(Ok(None), |(_, seq)| registry.reader().body(seq))?;
    let last = text.and_then(|text| parse::parse(&text, "the last accepted policy").ok());
    let last = last.map(|policy| PolicyLoader::new(path).with_manifests(Arc::new(policy)).0);
    ActivePolicy::start(file, last, clock.now()).map_err(StartError::Policy)
}

/// All engines of this build, by the names that family files use. They bind; an engine that needs a credential of the policy
/// to open a source cannot open it, see [`opening_engines`].
#[must_use]
pub fn engines(clock: Arc<dyn Clock>) -> Engines {
    engines_with(clock, None, airbyte::AirbyteEngine::new(), Installation::of_test(None))
}

/// All engines of this build, with what they need to open sources. Connectors of others must not be able to read `own`, and
/// sources at a company's own Airbyte get the mark of `installation`.
#[must_use]
pub fn opening_engines(
    clock: Arc<dyn Clock>,
    providers: &Arc<Providers>,
    own: airbyte::OwnPaths,
    installation: Installation,
) -> Engines {
    engines_with(clock, Some(providers), airbyte::AirbyteEngine::new().keeping(own), installation)
}

fn engines_with(
    clock: Arc<dyn Clock>,
    providers: Option<&Arc<Providers>>,
    process: airbyte::AirbyteEngine,
    installation: Installation,
) -> Engines {
    let native = Engines::from_list(vec![
        ("file", Box::new(file::FileEngine)),
        ("lowcode", Box::new(lowcode::LowcodeEngine::new(Arc::clone(&clock)))),
        ("mongo", Box::new(mongo::MongoEngine)),
        ("object", Box::new(object::ObjectEngine::new(Arc::clone(&clock)))),
        ("object_compat", Box::new(object::ObjectEngine::compatible(Arc::clone(&clock)))),
        ("openapi", Box::new(openapi::OpenApiEngine)),
        ("redshift", Box::new(redshift::RedshiftEngine::new(Arc::clone(&clock)))),
        ("snowflake", Box::new(snowflake::SnowflakeEngine::new(Arc::clone(&clock)))),
        ("sql", Box::new(sql::SqlEngine)),
        ("supabase", Box::new(supabase::SupabaseEngine::new(clock))),
    ]);
    let platform = airbyte_platform::AirbytePlatformEngine::new(native.clone(), providers.cloned(), installation);
    native.with(PROCESS_ENGINE, Box::new(process)).with(PLATFORM_ENGINE, Box::new(platform))
}

/// The environment that all attempts share.
#[must_use]
pub fn env(handle: &Handle) -> Env {
    airbyte::sweep_runs(&handle.policy().airbyte.dir);
    let budget: Arc<dyn crate::egress::DayBudget> = Arc::clone(&handle.registry) as _;
    // Signatures, tokens and manifests need the time of the machine, which other machines compare with theirs.
    let egress = Egress::with(budget, Arc::clone(&handle.clock), Arc::new(SystemLookup));
    // A process that was stopped or cut off for longer than its leases last must not call what others attempt now.
    // Without an attempt here, the source is called for a person, who may give a consent at any replica.
    let (leases, in_flight) = (Arc::clone(&handle.registry), Arc::clone(&handle.in_flight));
    egress.set_gate(Arc::new(move |source_of| leases.may_call(source_of.filter(|connection| in_flight.contains(*connection)))));
    let providers = Providers::new(Arc::clone(&egress), clock::from_env(), Process::Recording);
    providers.consents().keep_in(handle.registry.location());
    let own = airbyte::OwnPaths {
        intents: handle.intents.clone(),
        policy: handle.policy_file.clone(),
        registry: handle.registry.path().to_path_buf(),
    };
    // The sources of this AAM at a company's own Airbyte are marked by the first entry of its registry.
    let registry = Arc::clone(&handle.registry);
    let installation = Installation::new(move || registry.reader().hash_of(1).map_err(|error| error.to_string()));
    Env { engines: opening_engines(clock::from_env(), &providers, own, installation), providers, egress }
}

/// Loads the documents in `folder` into the demo namespace, unless it was loaded before. Does nothing if the folder does
/// not exist.
async fn seed(registry: &Registry, folder: &Path) -> Result<(), RegistryError> {
    if registry.snapshot().sealed.contains(DEMO_NAMESPACE) {
        return Ok(());
    }
    let Ok(files) = std::fs::read_dir(folder) else { return Ok(()) };
    let mut paths: Vec<PathBuf> =
        files.flatten().map(|file| file.path()).filter(|path| path.extension().is_some_and(|ext| ext == "json")).collect();
    paths.sort();
    let mut documents: Vec<(Intent, Origin)> = Vec::new();
    for path in paths {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let bytes = operator_file::read(&path, Limits::default().bytes as u64)
            .map_err(|error| RegistryError::Io { path: path.clone(), error })?;
        match wire::parse(&bytes, &Limits { demo: true, ..Limits::default() }) {
            Ok(parsed) => {
                documents.extend(parsed.intents().map(|intent| (intent.clone(), Origin(format!("seed:{name}").into()))))
            }
            Err(refusal) => {
                tracing::warn!(target: "aam::intake", file = %path.display(), problems = refusal.problems.len(), "this demo seed is not valid and was not loaded");
            }
        }
    }
    if !documents.is_empty() {
        registry.seal(DEMO_NAMESPACE, documents).await?;
    }
    Ok(())
}
