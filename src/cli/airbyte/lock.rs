//! The lock file of a connector: every package with its version and digests, in the form that pip reads.

use serde::Deserialize;
use std::collections::BTreeMap;

/// What pip reports about an installation (`--report`), as far as the lock file needs it.
#[derive(Deserialize)]
struct Report {
    install: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
    download_info: DownloadInfo,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    version: String,
}

#[derive(Deserialize)]
struct DownloadInfo {
    archive_info: Option<ArchiveInfo>,
}

#[derive(Deserialize)]
struct ArchiveInfo {
    #[serde(default)]
    hashes: BTreeMap<String, String>,
    /// `sha256=…`, as older versions of pip write it.
    hash: Option<String>,
}

/// A lock file.
pub struct Lock {
    pub text: String,
}

impl Lock {
    /// Makes the lock file of `package` in `version` from pip's reports. It does not name the place where packages came from,
    /// so that machines with different mirrors have the same file.
    ///
    /// # Errors
    /// Returns what the reports lack.
    pub fn from_reports(reports: &[Vec<u8>], package: &str, version: &str) -> Result<Lock, String> {
        let mut items = Vec::new();
        for report in reports {
            let report: Report =
                serde_json::from_slice(report).map_err(|error| format!("the report of pip is not valid: {error}"))?;
            items.extend(report.install);
        }
        let mut lines = Vec::new();
        for item in &items {
            let (name, found) = (normal(&item.metadata.name), &item.metadata.version);
            if name == normal(package) && found != version {
                return Err(format!("pip installed {package} {found} instead of {version}"));
            }
            let info = item.download_info.archive_info.as_ref();
            let digest = info.and_then(|info| {
                let old = info.hash.as_deref().and_then(|hash| hash.strip_prefix("sha256="));
                info.hashes.get("sha256").map(String::as_str).or(old)
            });
            let Some(digest) = digest.filter(|digest| is_digest(digest)) else {
                return Err(format!("pip did not report the SHA-256 of {name} {found}"));
            };
            if !is_plain(&name) || !is_plain(found) {
                return Err("pip reported a package whose name or version is not valid".to_string());
            }
            lines.push(format!("{name}=={found} --hash=sha256:{digest}\n"));
        }
        let own = format!("{}==", normal(package));
        if !lines.iter().any(|line| line.starts_with(&own)) {
            return Err(format!("pip did not report {package}"));
        }
        lines.sort();
        let head = format!(
            "# The packages of {package} {version}, for aam airbyte install. Do not edit: the policy names the digest.\n"
        );
        Ok(Lock { text: head + &lines.concat() })
    }

    /// The number of packages in the text of a lock file.
    #[must_use]
    pub fn count(text: &str) -> usize {
        text.lines().filter(|line| !line.starts_with('#') && line.contains("==")).count()
    }
}

/// The name of a package in the form in which names are compared (PEP 503).
pub fn normal(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars().map(|c| if matches!(c, '_' | '.') { '-' } else { c.to_ascii_lowercase() }) {
        if c != '-' || !out.ends_with('-') {
            out.push(c);
        }
    }
    out
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_plain(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '!' | '_');
    !text.is_empty() && text.len() <= 200 && text.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, version: &str, archive: &str) -> String {
        format!(
            r#"{{"metadata": {{"name": "{name}", "version": "{version}"}}, "download_info": {{"url": "x", "archive_info": {archive}}}}}"#
        )
    }

    fn reports(items: &[String]) -> Vec<Vec<u8>> {
        items.iter().map(|item| format!(r#"{{"version": "1", "install": [{item}]}}"#).into_bytes()).collect()
    }

    #[test]
    fn the_lock_pins_every_package_in_one_order() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let new =
            item("airbyte_source_acme", "1.0", &format!(r#"{{"hashes": {{"md5": "x", "sha256": "{a}"}}, "hash": "md5=x"}}"#));
        let old = item("Acme.Base", "2.1", &format!(r#"{{"hash": "sha256={b}"}}"#));
        let lock = |items: &[String]| Lock::from_reports(&reports(items), "airbyte-source-acme", "1.0");
        let made = lock(&[new.clone(), old.clone()]).expect("a lock");
        let rest = made.text.split_once('\n').expect("a first line").1;
        assert_eq!(rest, format!("acme-base==2.1 --hash=sha256:{b}\nairbyte-source-acme==1.0 --hash=sha256:{a}\n"));
        assert_eq!(Lock::count(&made.text), 2);
        assert_eq!(lock(&[old.clone(), new.clone()]).expect("a lock").text, made.text);
    }

    #[test]
    fn a_report_that_pins_less_is_refused() {
        let digest = format!(r#"{{"hashes": {{"sha256": "{}"}}}}"#, "a".repeat(64));
        let own = item("airbyte-source-acme", "1.0", &digest);
        for (items, reason) in [
            (vec![own.clone(), item("base", "2", "null")], "did not report the SHA-256 of base 2"),
            (vec![own.clone(), item("base", "2", r#"{"hashes": {"sha256": "abc"}}"#)], "did not report the SHA-256 of base 2"),
            (vec![item("airbyte-source-acme", "1.1", &digest)], "installed airbyte-source-acme 1.1 instead of 1.0"),
            (vec![item("base", "2", &digest)], "did not report airbyte-source-acme"),
            (vec![own, item("base", "2 --index-url=x", &digest)], "is not valid"),
        ] {
            let refused = Lock::from_reports(&reports(&items), "airbyte-source-acme", "1.0").map(|lock| lock.text);
            assert!(refused.as_ref().is_err_and(|text| text.contains(reason)), "{reason}: {refused:?}");
        }
        assert!(Lock::from_reports(&[b"{".to_vec()], "a", "1").is_err());
    }
}
