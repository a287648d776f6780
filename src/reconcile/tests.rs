//! Runs the loop as a daemon does, with a temporary folder.

use super::{FolderSync, Handle, Until, folder_sync::ScanCounts, run};
use crate::clock::{Clock, SystemClock};
use crate::policy::{ActivePolicy, LoadedPolicy, parse::parse};
use crate::registry::Registry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

const POLICY: &str = "version: 1\nallowlist: []\nreconcile: {resync: 1h}\n";
/// Longer than any pause between a change and the wake, scan and re-read that it causes.
const SILENCE: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(20);

struct Daemon {
    home: tempfile::TempDir,
    handle: Arc<Handle>,
    counts: Arc<ScanCounts>,
    task: tokio::task::JoinHandle<()>,
}

impl Daemon {
    /// Starts a loop with a folder of one file, and waits for its first scan.
    async fn start() -> Daemon {
        let home = tempfile::tempdir().unwrap();
        let (intents, policy) = (home.path().join("intents"), home.path().join("policy/policy.yaml"));
        for folder in ["intents", "policy", "saved"] {
            std::fs::create_dir(home.path().join(folder)).unwrap();
        }
        std::fs::write(&policy, POLICY).unwrap();
        std::fs::write(intents.join("first.json"), intent("first")).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let registry = Registry::open(&home.path().join("aam.db"), "test", Arc::clone(&clock)).unwrap();
        let active = ActivePolicy::new(LoadedPolicy::new(parse(POLICY, "policy.yaml").unwrap()), None);
        let handle = Handle::new(Arc::new(registry), clock, active, intents, policy);
        let folder_sync = FolderSync::open(&handle, true).unwrap();
        let counts = folder_sync.counts();
        let env = Arc::new(crate::daemon::env(&handle));
        let task = tokio::spawn(run(Arc::clone(&handle), env, folder_sync, Until::Stopped));
        let daemon = Daemon { home, handle, counts, task };
        daemon.connections(1).await;
        daemon.silence().await;
        daemon
    }

    /// Writes a file next to the folder, on the same file system, so that a rename can save it in one step.
    fn prepare(&self, name: &str, written: SystemTime) -> PathBuf {
        let path = self.home.path().join("saved").join(name);
        std::fs::write(&path, intent(name)).unwrap();
        std::fs::File::options().write(true).open(&path).and_then(|file| file.set_modified(written)).unwrap();
        path
    }

    fn save(&self, prepared: &Path) {
        std::fs::rename(prepared, self.handle.intents.join(prepared.file_name().unwrap())).unwrap();
    }

    /// Waits until the registry has `count` connections and each has been attempted.
    async fn connections(&self, count: usize) {
        let mut ends = self.handle.in_flight.ends();
        let known = async {
            while self.handle.registry.snapshot().connections.values().filter(|known| known.last.is_some()).count() < count {
                ends.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, known).await.expect("the file was taken in");
    }

    /// Waits until nothing has been read for [`SILENCE`].
    async fn silence(&self) {
        loop {
            let before = self.read();
            let _ = tokio::time::timeout(SILENCE, std::future::pending::<()>()).await;
            if self.read() == before {
                return;
            }
        }
    }

    /// The numbers of scans of the folder and of re-reads of fresh files.
    fn read(&self) -> (u64, u64) {
        (self.counts.scans.load(Ordering::Relaxed), self.counts.rereads.load(Ordering::Relaxed))
    }

    async fn stop(self) {
        self.handle.stopping.send_replace(true);
        self.task.await.unwrap();
    }
}

fn intent(name: &str) -> String {
    serde_json::json!({
        "source_type": "filesource", "resource_ids": [name], "namespace": "autonomy", "risk_level": "low",
        "evidence": {"status": "Sanctioned", "source": "IdP", "ts": "2026-11-08T18:00:00Z"},
        "owner": {"user": "owner@acme.example", "confidence": 0.9, "why": "admin"}
    })
    .to_string()
}

/// A saved file needs one scan. A file that was modified before the last tick of the file system's clock needs nothing
/// more. A file that was just written is read once more, without a scan, because a second write within the same tick
/// would leave its size and time unchanged.
#[tokio::test]
async fn a_saved_file_costs_one_scan_and_a_fresh_one_is_read_once_more() {
    let daemon = Daemon::start().await;
    let (scans, rereads) = daemon.read();

    let old = daemon.prepare("old.json", SystemTime::now() - Duration::from_secs(3600));
    daemon.save(&old);
    daemon.connections(2).await;
    daemon.silence().await;
    assert_eq!(daemon.read(), (scans + 1, rereads), "an old file: one scan");

    // On a slow machine the tick has passed before the scan reads the file, so that one read is enough.
    let new = daemon.prepare("new.json", SystemTime::now());
    daemon.save(&new);
    daemon.connections(3).await;
    daemon.silence().await;
    let (after, again) = daemon.read();
    assert_eq!(after, scans + 2, "a new file: one scan");
    assert!(again <= rereads + 1, "and at most one more read of this file");

    // A modification time half a second in the future keeps the file fresh for that long on any machine.
    let fresh = daemon.prepare("fresh.json", SystemTime::now() + Duration::from_millis(500));
    daemon.save(&fresh);
    daemon.connections(4).await;
    daemon.silence().await;
    assert_eq!(daemon.read().0, scans + 3, "a fresh file: one scan");
    assert!(daemon.read().1 > again, "and it is read again without another scan");
    daemon.stop().await;
}

#[tokio::test]
async fn ten_files_that_are_saved_together_share_a_scan_and_each_is_attempted() {
    let daemon = Daemon::start().await;
    let (scans, _) = daemon.read();
    let old = SystemTime::now() - Duration::from_secs(3600);
    let prepared: Vec<PathBuf> = (0..10).map(|number| daemon.prepare(&format!("{number}.json"), old)).collect();
    prepared.iter().for_each(|path| daemon.save(path));
    daemon.connections(11).await;
    daemon.silence().await;
    let (after, _) = daemon.read();
    assert!(after - scans <= 3, "{} scans", after - scans);
    daemon.stop().await;
}
