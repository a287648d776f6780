//! The real loop, the real registry and the real pipeline without a socket: a script answers the attempts instead of a source.
//! The clock may be the machine's, or one whose time jumps to the next instant at which something is due.
#![allow(dead_code, reason = "compiled into a test target and into the bench, and each uses a part of it")]

pub mod clock;
pub mod script;
pub mod soak;
pub mod source;
pub mod usage;

use aam::clock::Clock;
use aam::connectors::Engines;
use aam::egress::{DayBudget, Egress, resolve::SystemLookup};
use aam::pipeline::Env;
use aam::policy::ActivePolicy;
use aam::policy_loader::PolicyLoader;
use aam::providers::{Process, Providers};
use aam::reconcile::{FolderSync, Handle, Until, run};
use aam::registry::Registry;
use source::{ScriptedEngine, Source};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// The result of a part of a simulation.
pub type Simulated<T> = Result<T, Box<dyn std::error::Error>>;

/// What a simulation reads and writes.
#[derive(Clone)]
pub struct Paths {
    pub intents: PathBuf,
    pub policy: PathBuf,
    pub registry: PathBuf,
}

/// One process of the simulation: an open registry and the loop on it.
pub struct Simulation {
    pub handle: Arc<Handle>,
    task: Option<JoinHandle<()>>,
}

impl Simulation {
    /// Opens the registry and starts the loop, which ends as `until` says.
    pub fn start(paths: &Paths, clock: &Arc<dyn Clock>, source: &Arc<dyn Source>, until: Until) -> Simulated<Simulation> {
        let (handle, env) = open(paths, clock, source)?;
        Simulation::run(handle, env, until)
    }

    /// Starts the loop on an open registry.
    pub fn run(handle: Arc<Handle>, env: Arc<Env>, until: Until) -> Simulated<Simulation> {
        let folder_sync = FolderSync::open(&handle, false)?;
        let task = tokio::spawn(run(Arc::clone(&handle), env, folder_sync, until));
        Ok(Simulation { handle, task: Some(task) })
    }

    /// Waits for the end of the loop.
    pub async fn ended(&mut self) -> Simulated<()> {
        match self.task.take() {
            Some(task) => Ok(task.await?),
            None => Ok(()),
        }
    }

    /// Stops the loop and closes the registry, as a process does that is asked to stop.
    pub async fn stop(&mut self) -> Simulated<()> {
        self.handle.stopping.send_replace(true);
        self.ended().await?;
        self.handle.registry.close().await;
        Ok(())
    }
}

/// Opens the registry and creates what attempts share. Every family is answered by `source`.
pub fn open(paths: &Paths, clock: &Arc<dyn Clock>, source: &Arc<dyn Source>) -> Simulated<(Arc<Handle>, Arc<Env>)> {
    let registry = Arc::new(Registry::open(paths.registry.as_path(), "simulation", Arc::clone(clock))?);
    let loaded = PolicyLoader::new(&paths.policy).load().loaded.map_err(|problems| format!("the policy: {problems:?}"))?;
    let policy = ActivePolicy::new(loaded, None);
    let handle = Handle::new(Arc::clone(&registry), registry.clock(), policy, paths.intents.clone(), paths.policy.clone());
    let budget: Arc<dyn DayBudget> = registry;
    let egress = Egress::with(budget, Arc::clone(&handle.clock), Arc::new(SystemLookup));
    let providers = Providers::with_env(Arc::clone(&egress), Arc::clone(clock), Process::Recording, Arc::new(|_| None));
    let engine = || Box::new(ScriptedEngine(Arc::clone(source)));
    let engines = Engines::from_list(vec![("file", engine()), ("lowcode", engine())]);
    Ok((handle, Arc::new(Env { engines, egress, providers })))
}
