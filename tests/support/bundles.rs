//! Bundles of evidence that were changed by a person who also corrects what the bundle says about itself.

use aam::evidence::BundleKey;
use aam::model::Digest;
use aam::registry::{LedgerLine, chain_of_row};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

pub fn manifest(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).expect("a manifest")).expect("JSON")
}

pub fn write_manifest(folder: &Path, manifest: &Value) {
    std::fs::write(folder.join("manifest.json"), manifest.to_string()).expect("written");
}

/// The head that the manifest names.
pub fn head(folder: &Path) -> String {
    let head = &manifest(folder)["head"];
    format!("{}:{}", head["seq"], head["hash"].as_str().expect("a hash"))
}

fn files_below(folder: &Path, below: &str) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder.join(below)).expect("a folder") {
        let entry = entry.expect("an entry");
        let name = format!("{below}{}", entry.file_name().to_string_lossy());
        match entry.file_type().expect("a type").is_dir() {
            true => names.extend(files_below(folder, &format!("{name}/"))),
            false => names.push(name),
        }
    }
    names
}

/// Corrects the sizes in the manifest and the checksums, and signs them if `key` is given.
pub fn seal(folder: &Path, key: Option<&Path>) {
    let read = |name: &str| std::fs::read(folder.join(name)).expect("a file");
    if folder.join("manifest.json").exists() {
        let mut manifest = manifest(folder);
        let files = manifest["files"].as_object_mut().expect("files");
        files.retain(|name, _| folder.join(name).exists());
        for (name, body) in files {
            let bytes = read(name);
            *body = json!({"bytes": bytes.len(), "sha256": Digest::from_bytes(&bytes)});
        }
        write_manifest(folder, &manifest);
    }
    let mut names = files_below(folder, "");
    names.retain(|name| !name.starts_with("SHA256SUMS"));
    names.sort();
    let sums: String = names.iter().map(|name| format!("{}  {name}\n", Digest::from_bytes(&read(name)))).collect();
    std::fs::write(folder.join("SHA256SUMS"), &sums).expect("written");
    if let Some(key) = key {
        let signature = BundleKey::read(key).and_then(|key| key.sign(sums.as_bytes())).expect("a signature");
        std::fs::write(folder.join("SHA256SUMS.sig"), signature).expect("written");
    }
}

/// The lines of `ledger.jsonl`.
pub fn ledger(folder: &Path) -> Vec<LedgerLine> {
    let text = std::fs::read_to_string(folder.join("ledger.jsonl")).expect("a ledger");
    text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect()
}

/// How far a forger of several chains goes.
#[derive(Clone, Copy, PartialEq)]
pub enum Forgery {
    /// The lines are as they were given.
    AsGiven,
    /// The chains fit by themselves: places, links and hashes are computed again.
    Chains,
    /// The anchors are written anew, too.
    ChainsAndAnchors,
}

/// Writes the lines of several chains into `ledger.jsonl`, and corrects the manifest and the checksums.
pub fn forge(folder: &Path, mut lines: Vec<LedgerLine>, how: Forgery) {
    let mut first: BTreeMap<u32, (u64, Digest)> = BTreeMap::new();
    for line in ledger(folder) {
        first.entry(line.chain.expect("a chain")).or_insert((line.place.expect("a place"), line.prev));
    }
    let mut ends: BTreeMap<u32, (u64, Digest)> = BTreeMap::new();
    let mut parts: BTreeMap<u32, Value> = BTreeMap::new();
    for line in lines.iter_mut() {
        let chain = line.chain.expect("a chain");
        if how == Forgery::ChainsAndAnchors && line.kind == "chains_anchored" {
            let named = ends.iter().filter(|(chain, _)| **chain != 0);
            let named: Vec<Value> =
                named.map(|(chain, (place, hash))| json!({"chain": chain, "place": place, "hash": hash})).collect();
            let mut facts: Value = serde_json::from_str(&line.facts).expect("facts");
            facts["chains"] = json!(named);
            line.facts = facts.to_string();
        }
        if how != Forgery::AsGiven {
            let begin = first.get(&chain).copied().unwrap_or((1, Digest::default()));
            let (place, prev) = ends.get(&chain).map_or(begin, |(place, hash)| (place + 1, *hash));
            (line.place, line.prev) = (Some(place), prev);
            line.hash = line.computed_hash(&prev);
        }
        ends.insert(chain, (line.place.expect("a place"), line.hash));
        let part = parts.entry(chain).or_insert_with(|| json!({"chain": chain, "first_place": line.place, "prev": line.prev}));
        (part["last_place"], part["last_hash"]) = (json!(line.place), json!(line.hash));
    }
    let text: String = lines.iter().map(|line| serde_json::to_string(line).expect("JSON") + "\n").collect();
    std::fs::write(folder.join("ledger.jsonl"), text).expect("written");
    let mut manifest = manifest(folder);
    manifest["ledger"]["count"] = json!(lines.len());
    manifest["chains"]["ledger"] = json!(parts.into_values().collect::<Vec<_>>());
    write_manifest(folder, &manifest);
    seal(folder, None);
}

/// Corrects the head in the manifest: the last row of the first chain.
pub fn correct_head(folder: &Path) {
    let last = ledger(folder).into_iter().rfind(|line| line.chain == Some(0)).expect("a row of the first chain");
    let mut manifest = manifest(folder);
    (manifest["head"]["seq"], manifest["head"]["hash"]) = (json!(last.seq), json!(last.hash));
    write_manifest(folder, &manifest);
    seal(folder, None);
}

/// Another chain than that of the row.
pub fn other_chain(line: &LedgerLine) -> u32 {
    (chain_of_row(line.connection.as_deref()).expect("a chain") + 1) % 64
}
