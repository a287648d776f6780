//! `file:PATH`: a file below a folder of the policy's `credentials.files`.
//!
//! The path is judged by its text first, so a file outside the folders is not even looked up. Then the folder is opened,
//! and the file is opened below it in one step, so a symbolic link that is swapped meanwhile cannot lead out of the folder.
//! What is checked and read is the open file.

use super::stored::{FolderReads, StoredSecret};
use super::{CredentialFacts, CredentialProvider, CredentialRequest, ProvidedCredential, Providers};
use crate::families::Family;
use crate::model::locator_forms::unknown_form;
use crate::model::{Class, Failure, Locator, PlannedCall};
use crate::operator_file::{READ_FLAGS, beneath::BaseFolder};
use crate::policy::Policy;
use crate::policy::credentials::file_path::{self, CredentialFile};
use futures_util::future::BoxFuture;
use rustix::io::Errno;
use std::fs::File;
use std::io::{Error, ErrorKind};
use std::path::Path;

/// Resolves `file:PATH`. Nothing is cached, so the next attempt uses a rotated secret.
#[derive(Default)]
pub struct FileProvider {
    reads: FolderReads,
}

impl FileProvider {
    async fn read(&self, locator: &str, file: CredentialFile) -> Result<ProvidedCredential, Failure> {
        let path = file.folder.join(&file.relative);
        let opened = file.clone();
        let read = self.reads.read(&file.folder, &path, locator, move || open(&opened)).await?;
        let Some(StoredSecret { credential, warning }) = read else {
            return Err(Failure::new(
                Class::CredentialMissing,
                format!("the file {} does not exist", path.display()),
                format!(
                    "put the credential there, as text or as JSON with the fields of the family, and let only aam read it: chmod 600 {}",
                    path.display()
                ),
            ));
        };
        let mut facts = CredentialFacts { changeable: true, warning, ..CredentialFacts::new("file") };
        facts.evidence.insert("read_from".to_string(), path.display().to_string().into());
        Ok(ProvidedCredential { credential, facts })
    }
}

/// Opens the file below its folder.
fn open(file: &CredentialFile) -> std::io::Result<File> {
    let folder = BaseFolder::open(&file.folder).map_err(|errno| match errno {
        // The folder may be mounted later.
        Errno::NOENT => Error::from(ErrorKind::NotFound),
        errno => errno.into(),
    })?;
    match folder.resolve(Path::new(&file.relative), READ_FLAGS) {
        Ok(fd) => Ok(File::from(fd)),
        Err(Errno::XDEV | Errno::LOOP) => {
            Err(Error::other("it is a symbolic link that leads out of its folder, or is part of a loop of links"))
        }
        Err(Errno::NOTDIR) => Err(Error::from(ErrorKind::NotFound)),
        Err(errno) => Err(errno.into()),
    }
}

impl CredentialProvider for FileProvider {
    fn provide<'a>(
        &'a self,
        _: &'a Providers,
        request: &'a CredentialRequest,
    ) -> BoxFuture<'a, Result<ProvidedCredential, Failure>> {
        Box::pin(async move {
            let Locator::File(path) = &request.locator else { return Err(unknown_form(&request.locator)) };
            let file = file_path::find(path, &request.policy.credentials.files)?;
            self.read(&request.locator.to_string(), file).await
        })
    }

    fn planned_calls(&self, _: &Policy, _: &Locator, _: &Family) -> Vec<PlannedCall> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Secret;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    struct Folders {
        root: tempfile::TempDir,
    }

    impl Folders {
        fn new() -> Folders {
            let root = tempfile::tempdir().expect("a folder");
            std::fs::create_dir_all(root.path().join("in/team")).expect("a folder");
            let folders = Folders { root };
            folders.write("in/text", "0p9o8i7u\n");
            folders.write("in/team/json", "{\"user\": \"reader\", \"password\": \"0p9o8i7u\"}");
            folders.write("outside", "0p9o8i7u");
            folders
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.path(name), text).expect("written");
            std::fs::set_permissions(self.path(name), PermissionsExt::from_mode(0o600)).expect("changed");
        }

        async fn read(&self, name: &str) -> Result<ProvidedCredential, Failure> {
            let path = format!("{}/{name}", self.root.path().display());
            let file = file_path::find(&path, &[self.path("in")])?;
            FileProvider::default().read(&format!("file:{path}"), file).await
        }
    }

    #[tokio::test]
    async fn text_and_json_are_read_also_through_links_that_stay_below() {
        let folders = Folders::new();
        symlink("team/json", folders.path("in/relative")).expect("linked");
        symlink(folders.path("in/text"), folders.path("in/absolute")).expect("linked");
        for name in ["in/text", "in/./text", "in//text", "in/absolute"] {
            let provided = folders.read(name).await.expect(name);
            assert_eq!(provided.credential.plain().map(Secret::expose), Some("0p9o8i7u"), "{name}");
        }
        for name in ["in/team/json", "in/relative"] {
            let provided = folders.read(name).await.expect(name);
            assert_eq!(provided.credential.field("password").map(Secret::expose), Some("0p9o8i7u"), "{name}");
        }
    }

    #[tokio::test]
    async fn what_is_outside_is_refused_however_it_is_written() {
        let folders = Folders::new();
        symlink("../outside", folders.path("in/link")).expect("linked");
        symlink("..", folders.path("in/up")).expect("linked");
        symlink("loop", folders.path("in/loop")).expect("linked");
        for name in ["outside", "in/../outside", "in/team/../../outside", "in"] {
            let failure = folders.read(name).await.expect_err(name);
            assert!(
                failure.title.contains("is not allowed to be read") || failure.title.contains("is not usable"),
                "{failure:?}"
            );
        }
        for name in ["in/link", "in/up/outside", "in/loop"] {
            let failure = folders.read(name).await.expect_err(name);
            assert!(failure.title.contains("symbolic link that leads out"), "{name}: {failure:?}");
        }
        // The answer does not say whether a file outside exists.
        let (present, absent) = (folders.read("outside").await.err(), folders.read("absent_").await.err());
        let title = |failure: Option<Failure>| failure.map(|failure| failure.title).unwrap_or_default();
        assert_eq!(title(present).replace("outside", "absent_"), title(absent));
        let long = folders.read(&format!("in/{}", "x".repeat(300))).await.expect_err("too long");
        assert!(long.fix.contains("under a shorter name") && !long.fix.contains("chmod"), "{long:?}");
        let missing = folders.read("in/absent").await.expect_err("missing");
        assert!(missing.title.contains("does not exist") && missing.class == Class::CredentialMissing, "{missing:?}");
    }
}
