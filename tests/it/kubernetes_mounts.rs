//! Intents and policy in volumes as the kubelet writes them: every name is a link below `..data`, and an update replaces that one
//! link by rename.

use crate::support::daemon::{Workspace, intent, stdout, until};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A volume of a ConfigMap.
struct ConfigMap {
    folder: PathBuf,
    version: u32,
    names: Vec<String>,
}

impl ConfigMap {
    fn new(folder: PathBuf) -> ConfigMap {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).expect("a folder");
        ConfigMap { folder, version: 0, names: Vec::new() }
    }

    /// Makes `files` the content of the volume, in the order of the kubelet: the new folder is written, `..data` is replaced, new
    /// names are linked, old names are removed, and last the old folder.
    fn update(&mut self, files: &[(&str, String)]) {
        let (old, new) = (self.at(&format!("..v{}", self.version)), format!("..v{}", self.version + 1));
        self.version += 1;
        std::fs::create_dir(self.at(&new)).expect("a folder");
        for (name, text) in files {
            std::fs::write(self.at(&new).join(name), text).expect("written");
        }
        symlink(&new, self.at("..data_tmp")).expect("linked");
        std::fs::rename(self.at("..data_tmp"), self.at("..data")).expect("replaced");
        for (name, _) in files.iter().filter(|(name, _)| !self.names.iter().any(|known| known == name)) {
            symlink(Path::new("..data").join(name), self.at(name)).expect("linked");
        }
        for name in self.names.iter().filter(|known| !files.iter().any(|(name, _)| name == known)) {
            std::fs::remove_file(self.at(name)).expect("removed");
        }
        self.names = files.iter().map(|(name, _)| (*name).to_string()).collect();
        let _ = std::fs::remove_dir_all(old);
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_of_config_maps_are_followed_at_once() {
    let workspace = Workspace::new();
    let path = |name: &str| workspace.path(&format!("data/{name}.csv")).display().to_string();
    let document = |name: &str| intent("filesource", &workspace.csv(&format!("{name}.csv"), 3)).to_string();
    let policy = |coverage: f64| {
        let data = workspace.path("data");
        // Without the watch, the next scan would be an hour away.
        format!(
            "version: 1\nallowlist: [filesource]\nfiles: {{roots: [{}]}}\nreconcile: {{resync: 1h}}\nslo: {{coverage: {coverage}}}\n",
            data.display()
        )
    };
    let mut policies = ConfigMap::new(workspace.path("policy"));
    policies.update(&[("policy.yaml", policy(0.9))]);
    let mut intents = ConfigMap::new(workspace.path("intents"));
    intents.update(&[("a.json", document("a")), ("b.json", document("b"))]);
    let daemon = workspace.serve().await;
    daemon.until_state(&path("a"), "ACTIVE").await;
    daemon.until_state(&path("b"), "ACTIVE").await;
    // One name comes, one goes, one is the same: after each of several updates, so that the watch of a removed folder is no help.
    for (coverage, present, gone) in [(0.8, "c", "b"), (0.7, "b", "c"), (0.6, "c", "b")] {
        intents.update(&[("a.json", document("a")), (&format!("{present}.json"), document(present))]);
        daemon.until_state(&path(present), "ACTIVE").await;
        daemon.until_state(&path(gone), "RETIRED").await;
        policies.update(&[("policy.yaml", policy(coverage))]);
        until("the policy is in force", || async {
            let body = daemon.get("/dashboard.json").await.body;
            (body["funnel"]["target"] == coverage, body["funnel"].to_string())
        })
        .await;
    }
    // An update that cannot be used leaves what is in force, and says so.
    policies.update(&[("policy.yaml", "version: 2\n".to_string())]);
    until("the policy is rejected", || async {
        let body = daemon.get("/dashboard.json").await.body;
        (!body["policy"]["rejected"].is_null() && body["funnel"]["target"] == 0.6, body["policy"].to_string())
    })
    .await;
    let one = daemon.until_state(&path("a"), "ACTIVE").await;
    assert_eq!(daemon.entries(&one, "intent_accepted").await.len(), 1, "the same document behind another link is not a change");
    assert!(!daemon.log().contains("Unable to remove the path"), "{}", daemon.log());
    daemon.stop().await;
}

#[test]
fn the_example_of_docs_deploy_is_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/deploy/kubernetes");
    let (intents, policy) = (folder.join("intents").display().to_string(), folder.join("policy.yaml").display().to_string());
    let check = Workspace::new().run(&["check", "--intents", &intents, "--policy", &policy]);
    assert!(check.status.success() && stdout(&check).contains("1 intent, 1 connection"), "{}", stdout(&check));
}
