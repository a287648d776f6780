//! `env:NAME` from variables and from files.

use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};

fn provider(variables: &'static [(&'static str, &'static str)]) -> EnvProvider {
    let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_string());
    EnvProvider::new(Process::Recording, Arc::new(find))
}

async fn read(value: Option<&'static str>, folder: &Path) -> Result<ProvidedCredential, Failure> {
    let read_env: ReadEnv = Arc::new(move |name| value.filter(|_| name == "A_NAME").map(str::to_string));
    EnvProvider::new(Process::Recording, read_env).read("A_NAME", folder).await
}

fn store(folder: &Path, bytes: &[u8]) {
    std::fs::write(folder.join("A_NAME"), bytes).expect("written");
    std::fs::set_permissions(folder.join("A_NAME"), PermissionsExt::from_mode(0o600)).expect("changed");
}

#[tokio::test]
async fn a_secret_that_is_in_neither_place_is_named_with_both() {
    let folder = tempfile::tempdir().expect("a folder");
    for (value, what) in [(None, "is not set"), (Some(""), "is empty"), (Some(" \n"), "is empty")] {
        let failure = read(value, folder.path()).await.expect_err("missing");
        assert_eq!(failure.class, Class::CredentialMissing);
        let file = folder.path().join("A_NAME").display().to_string();
        assert!(failure.title.contains(what) && failure.title.contains(&file), "{failure:?}");
        assert_eq!(failure.fix, "aam secret set A_NAME", "it can be pasted into a shell");
    }
    store(folder.path(), b"from-the-file\n");
    let missing = read(None, &folder.path().join("absent")).await.expect_err("missing");
    assert!(missing.title.contains("does not exist"), "{missing:?}");
}

#[tokio::test]
async fn a_secret_that_cannot_be_kept_out_of_texts_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for (value, what) in [
        ("abc", "shorter than 4 characters"),
        ("Password\n", "a common word"),
        ("reader:test", "a common word"),
        (r#"{"user":"root","password":"postgres"}"#, "a common word"),
        (r#"{"client_id":"a","client_secret":"x1"}"#, "shorter than 4 characters"),
    ] {
        let failure = read(Some(value), folder.path()).await.expect_err("refused");
        assert_eq!(failure.class, Class::CredentialMissing);
        assert!(failure.title.contains(what) && failure.title.contains("A_NAME"), "{value}: {failure:?}");
        store(folder.path(), value.as_bytes());
        let failure = read(None, folder.path()).await.expect_err("refused");
        assert!(failure.title.contains(what) && failure.title.contains("A_NAME"), "{value}: {failure:?}");
    }
    for value in ["90817", "reader:s3cr", r#"{"user":"root","password":"1234x","plan":"default","tier":"pro","token_type":"x"}"#]
    {
        assert!(read(Some(value), folder.path()).await.is_ok(), "{value}");
    }
}

#[tokio::test]
async fn the_variable_comes_first_and_a_file_is_read_without_its_last_line_break() {
    let folder = tempfile::tempdir().expect("a folder");
    for bytes in [&b"from-the-file"[..], b"from-the-file\n", b"from-the-file\r\n", b"\xef\xbb\xbffrom-the-file\n"] {
        store(folder.path(), bytes);
        let provided = read(None, folder.path()).await.expect("read");
        assert_eq!(provided.credential.plain().map(Secret::expose), Some("from-the-file"));
        assert!(provided.facts.changeable && provided.facts.warning.is_none());
        let provided = read(Some("from-the-variable"), folder.path()).await.expect("read");
        assert_eq!(provided.credential.plain().map(Secret::expose), Some("from-the-variable"));
        assert!(!provided.facts.changeable);
    }
    store(folder.path(), b"{\"user\": \"reader\", \"password\": \"0p9o8i7u\"}\n");
    let provided = read(None, folder.path()).await.expect("read");
    assert_eq!(provided.credential.field("user").map(Secret::expose), Some("reader"));
}

#[tokio::test]
async fn each_reason_why_a_file_cannot_be_used_has_its_own_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let title = |result: Result<ProvidedCredential, Failure>| result.err().map(|failure| failure.title).unwrap_or_default();
    let cases: [(&[u8], &str); 4] = [
        (b"", "is empty"),
        (b"\n\r\n", "is empty"),
        (b"caf\xe9-caf\xe9", "is not valid UTF-8"),
        (&[b'x'; (64 << 10) + 1], "is larger than 64 KiB"),
    ];
    for (bytes, part) in cases {
        store(folder.path(), bytes);
        let title = title(read(None, folder.path()).await);
        assert!(title.contains(part) && title.contains("A_NAME"), "{title}");
    }
    std::fs::remove_file(folder.path().join("A_NAME")).expect("removed");
    std::fs::create_dir(folder.path().join("A_NAME")).expect("a folder");
    assert!(title(read(None, folder.path()).await).contains("it is a folder, not a file"));
    std::fs::remove_dir(folder.path().join("A_NAME")).expect("removed");
    rustix::fs::mknodat(CWD, folder.path().join("A_NAME"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).expect("a pipe");
    assert!(title(read(None, folder.path()).await).contains("not a regular file"), "a pipe without a writer does not block");
}

#[tokio::test]
async fn a_mounted_secret_is_followed_through_its_links_and_one_that_all_can_read_is_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    let mount = |version: &str, value: &str| {
        let data = folder.path().join(version);
        std::fs::create_dir(&data).expect("a folder");
        std::fs::write(data.join("A_NAME"), value).expect("written");
        std::fs::set_permissions(data.join("A_NAME"), PermissionsExt::from_mode(0o640)).expect("changed");
        let _ = std::fs::remove_file(folder.path().join("..data"));
        symlink(version, folder.path().join("..data")).expect("linked");
    };
    mount("..1", "first-value\n");
    symlink("..data/A_NAME", folder.path().join("A_NAME")).expect("linked");
    let value = |provided: &ProvidedCredential| provided.credential.plain().map(|secret| secret.expose().to_string());
    let provided = read(None, folder.path()).await.expect("read");
    assert_eq!((value(&provided).as_deref(), provided.facts.warning.is_none()), (Some("first-value"), true));
    mount("..2", "second-value\n");
    std::fs::set_permissions(folder.path().join("..2/A_NAME"), PermissionsExt::from_mode(0o644)).expect("changed");
    let provided = read(None, folder.path()).await.expect("read");
    assert_eq!(value(&provided).as_deref(), Some("second-value"), "the swap of the mount is seen at the next attempt");
    let warning = provided.facts.warning.expect("a warning");
    assert!(warning.title.contains("every user of this machine can read") && warning.fix.contains("chmod 600"), "{warning:?}");
}

#[tokio::test]
async fn the_credentials_of_systemd_are_the_last_place() {
    let (folder, of_systemd) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    store(of_systemd.path(), b"of-systemd");
    let path: &'static str = Box::leak(of_systemd.path().display().to_string().into_boxed_str());
    let variables: &'static [(&'static str, &'static str)] = Box::leak(Box::new([("CREDENTIALS_DIRECTORY", path)]));
    let read = |folder: PathBuf| async move { provider(variables).read("A_NAME", &folder).await };
    let value = |provided: ProvidedCredential| provided.credential.plain().map(|secret| secret.expose().to_string());
    assert_eq!(value(read(folder.path().to_path_buf()).await.expect("read")).as_deref(), Some("of-systemd"));
    store(folder.path(), b"of-secrets-dir");
    assert_eq!(value(read(folder.path().to_path_buf()).await.expect("read")).as_deref(), Some("of-secrets-dir"));
}
