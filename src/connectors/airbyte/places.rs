//! The places that no connector may read: what AAM keeps, what holds credentials, and folders that belong to the whole system
//! or to a person. What a connector could read is compared with them before anything runs, because a confinement that is
//! correct does not help if the policy opens the wrong folder.

use crate::model::{Class, Failure};
use crate::policy::Policy;
use std::path::{Path, PathBuf};

/// The files of AAM that the policy does not name.
#[derive(Clone, Debug, Default)]
pub struct OwnPaths {
    pub intents: PathBuf,
    pub policy: PathBuf,
    /// The file of the registry, or the path beside which the files of this process are.
    pub registry: PathBuf,
}

/// Folders that belong to the whole system, each as a whole.
const SYSTEM_FOLDERS: [&str; 20] = [
    "/",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/local",
    "/var",
    "/var/lib",
    "/var/log",
    "/var/tmp",
];

/// The variable with the folder in which systemd puts credentials.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// How much of a place is out of bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// The place as a whole. Something in it may be readable.
    Itself,
    /// Everything in it.
    Everything,
    /// Everything in it except for installed connectors, which are below the folder of the registry by default.
    ButConnectors,
}

struct Place {
    /// For messages: `the registry`.
    what: &'static str,
    /// Without links.
    path: PathBuf,
    extent: Extent,
}

/// The places that a connector must not be able to read under one policy.
pub struct Places {
    list: Vec<Place>,
    /// The folder of installed connectors.
    installed: PathBuf,
}

impl Places {
    /// Looks up the places. Blocks.
    #[must_use]
    pub fn new(policy: &Policy, own: &OwnPaths) -> Places {
        use Extent::{ButConnectors, Everything, Itself};
        let mut places = Places { list: Vec::new(), installed: real(&policy.airbyte.dir) };
        let credentials = &policy.credentials;
        places.add("the registry", &own.registry, Everything);
        places.add("the policy", &own.policy, Everything);
        places.add("the intents", &own.intents, Everything);
        places.add("credentials.secrets_dir", &credentials.secrets_dir, Everything);
        for folder in &credentials.files {
            places.add("a folder of credentials.files", folder, Everything);
        }
        places.add("credentials.consent_store", &credentials.consent_store.file, Everything);
        places.add("the credentials of systemd", &variable(CREDENTIALS_DIRECTORY), Everything);
        for folder in ["runs", "rotated"] {
            places.add("the private data of connectors", &policy.airbyte.dir.join(folder), Everything);
        }
        if let Some(folder) = own.registry.parent() {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            places.add("the folder of the registry", folder, ButConnectors);
        }
        places.add("a home directory", &std::env::home_dir().unwrap_or_default(), Itself);
        places.add("the processes of the system", Path::new("/proc"), Everything);
        for folder in SYSTEM_FOLDERS {
            places.add("a folder of the whole system", Path::new(folder), Itself);
        }
        places
    }

    fn add(&mut self, what: &'static str, path: &Path, extent: Extent) {
        // An empty path is one that is not known.
        if !path.as_os_str().is_empty() {
            self.list.push(Place { what, path: real(path), extent });
        }
    }

    /// Makes sure that none of the paths contains a place or is inside one, and that no library of the system, which every
    /// connector may read, contains data of AAM. Blocks.
    ///
    /// # Errors
    /// Returns `Misconfigured` with the path and the place.
    pub fn check<'p>(&self, readable: impl Iterator<Item = &'p PathBuf>, name: &str) -> Result<(), Failure> {
        for path in readable {
            let path = real(path);
            if path.parent() == Some(Path::new("/home")) && path.is_dir() {
                return Err(refused(name, &path, "is", "a home directory", &path));
            }
            for place in &self.list {
                let relation = match () {
                    () if path == place.path => "is",
                    () if place.path.starts_with(&path) => "contains",
                    () if self.is_in(&path, place) => "is inside",
                    () => continue,
                };
                return Err(refused(name, &path, relation, place.what, &place.path));
            }
        }
        for library in confinement::system_libraries() {
            let library = real(&library);
            let inside = |place: &&Place| place.extent != Extent::Itself && place.path.starts_with(&library);
            if let Some(place) = self.list.iter().find(inside) {
                return Err(refused(name, &library, "contains", place.what, &place.path));
            }
        }
        Ok(())
    }

    fn is_in(&self, path: &Path, place: &Place) -> bool {
        match place.extent {
            Extent::Itself => false,
            Extent::Everything => path.starts_with(&place.path),
            Extent::ButConnectors => path.starts_with(&place.path) && !self.is_of_connector(path),
        }
    }

    /// Whether the path is in the virtual environment of an installed connector.
    fn is_of_connector(&self, path: &Path) -> bool {
        let first = path.strip_prefix(&self.installed).ok().and_then(|rest| rest.components().next());
        first.is_some_and(|first| self.installed.join(first).join("pyvenv.cfg").is_file())
    }
}

fn variable(name: &str) -> PathBuf {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute()).unwrap_or_default()
}

/// Returns the whole path without links. What does not exist yet is resolved as far as it exists.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    for ancestor in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (ancestor.canonicalize(), path.strip_prefix(ancestor)) {
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path
}

fn refused(name: &str, path: &Path, relation: &str, what: &str, place: &Path) -> Failure {
    let is_same = path == place;
    let more = if is_same { String::new() } else { format!(" ({})", place.display()) };
    Failure::new(
        Class::Misconfigured,
        format!("{name} was not started: it could read {}, which {relation} {what}{more}", path.display()),
        format!(
            "put the files of the connector into a folder of their own, outside of the folders of aam, and name only that in airbyte.connectors.{name}.run and airbyte.connectors.{name}.readable"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::parse::parse;

    fn places(root: &Path, section: &str) -> Places {
        let text = format!(
            "version: 1\nallowlist: []\nairbyte: {{dir: {0}/var/airbyte}}\ncredentials: {{secrets_dir: {0}/var/secrets, files: [{0}/aws]}}\n{section}",
            root.display()
        );
        let policy = parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{problems:?}"));
        let own = OwnPaths {
            intents: root.join("intents"),
            policy: root.join("policy/policy.yaml"),
            registry: root.join("var/aam.db"),
        };
        Places::new(&policy, &own)
    }

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().expect("a folder");
        let root = home.path().canonicalize().expect("a path");
        for folder in ["var/secrets", "var/backups", "var/airbyte/source-x-1/bin", "intents", "policy", "aws", "connectors"] {
            std::fs::create_dir_all(root.join(folder)).expect("created");
        }
        std::fs::write(root.join("var/airbyte/source-x-1/pyvenv.cfg"), "").expect("written");
        (home, root)
    }

    #[test]
    fn what_contains_a_place_of_aam_or_is_inside_one_is_refused_by_name() {
        let (_home, root) = folder();
        let places = places(&root, "");
        for (path, relation, what) in [
            ("", "contains", "the registry"),
            ("var", "contains", "the registry"),
            ("var/aam.db", "is", "the registry"),
            ("var/aam.db.admin-token", "is inside", "the folder of the registry"),
            ("var/backups", "is inside", "the folder of the registry"),
            ("policy", "contains", "the policy"),
            ("intents/acme.json", "is inside", "the intents"),
            ("var/secrets", "is", "credentials.secrets_dir"),
            ("aws/credentials", "is inside", "a folder of credentials.files"),
            ("var/airbyte/runs", "is", "the private data of connectors"),
            ("var/airbyte/runs/1-2-3/config.json", "is inside", "the private data of connectors"),
        ] {
            let failure = places.check([root.join(path)].iter(), "acme").expect_err(path);
            let expected = format!("which {relation} {what}");
            assert!(failure.title.contains(&expected), "{path}: {failure:?}");
            assert!(failure.fix.contains("airbyte.connectors.acme.readable"), "{failure:?}");
        }
        for path in ["connectors", "connectors/acme.py", "var/airbyte/source-x-1", "var/airbyte/source-x-1/bin"] {
            assert_eq!(places.check([root.join(path)].iter(), "acme"), Ok(()), "{path}");
        }
    }

    #[test]
    fn links_do_not_hide_a_place() {
        let (_home, root) = folder();
        std::os::unix::fs::symlink(root.join("var"), root.join("connectors/data")).expect("a link");
        let failure = places(&root, "").check([root.join("connectors/data")].iter(), "acme").expect_err("a link");
        assert!(failure.title.contains("the registry"), "{failure:?}");
    }

    #[test]
    fn whole_folders_of_the_system_and_of_people_are_refused_and_parts_of_them_are_not() {
        let (_home, root) = folder();
        let places = places(&root, "");
        let home = std::env::home_dir().expect("a home");
        let whole = ["/", "/etc", "/home", "/root", "/srv", "/opt", "/var", "/usr/local", "/usr", "/proc/1/environ"];
        for path in whole.iter().map(PathBuf::from).chain([home]).filter(|path| path.exists()) {
            assert!(places.check([path.clone()].iter(), "acme").is_err(), "{}", path.display());
        }
        for path in ["/opt/acme", "/srv/acme.py", "/usr/local/lib", "/usr/bin"] {
            assert_eq!(places.check([PathBuf::from(path)].iter(), "acme"), Ok(()), "{path}");
        }
    }
}
