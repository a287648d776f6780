use super::*;
use serde_json::Map;
use std::os::unix::fs::{PermissionsExt, symlink};

const PACKAGE: &str = "airbyte-source-acme";

struct Installed {
    _home: tempfile::TempDir,
    airbyte: Airbyte,
    environment: PathBuf,
}

/// An environment with a lock file, a module and a link.
fn installed() -> Installed {
    let home = tempfile::tempdir().expect("a folder");
    let airbyte = Airbyte { dir: home.path().join("airbyte"), ..Airbyte::default() };
    let environment = airbyte.environment(PACKAGE, "1.2.3");
    std::fs::create_dir_all(environment.join("lib/__pycache__")).expect("created");
    std::fs::create_dir_all(environment.join("bin")).expect("created");
    std::fs::write(environment.join("lib/acme.py"), "VERSION = 1\n").expect("written");
    symlink("/usr/bin/python3", environment.join("bin/python")).expect("a link");
    std::fs::write(airbyte.lock_file(PACKAGE, "1.2.3"), "acme==1\n").expect("written");
    Installed { _home: home, airbyte, environment }
}

fn lock() -> Digest {
    Digest::from_bytes(b"acme==1\n")
}

fn changed(environment: &Path) -> Vec<String> {
    match check(environment, Some(lock())) {
        Ok(()) => Vec::new(),
        Err(EnvironmentProblem::Changed { shown, .. }) => shown,
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn every_change_of_a_file_is_found_and_named() {
    let Installed { environment, _home, .. } = installed();
    mark_complete(&environment, lock()).expect("marked");
    assert_eq!(changed(&environment), Vec::<String>::new());
    // Python writes these itself.
    std::fs::write(environment.join("lib/__pycache__/acme.pyc"), "compiled").expect("written");
    assert_eq!(changed(&environment), Vec::<String>::new());

    let module = environment.join("lib/acme.py");
    std::fs::write(&module, "VERSION = 2\n").expect("written");
    assert_eq!(changed(&environment), ["\"lib/acme.py\""]);
    std::fs::write(&module, "VERSION = 1\n").expect("written");
    std::fs::set_permissions(&module, std::fs::Permissions::from_mode(0o777)).expect("another mode");
    assert_eq!(changed(&environment), ["\"lib/acme.py\""]);
    std::fs::set_permissions(&module, std::fs::Permissions::from_mode(0o644)).expect("the mode");
    mark_complete(&environment, lock()).expect("marked");

    std::fs::write(environment.join("lib/sitecustomize.py"), "").expect("written");
    std::fs::remove_file(environment.join("bin/python")).expect("removed");
    symlink("/tmp/python", environment.join("bin/python")).expect("a link");
    assert_eq!(changed(&environment), ["\"bin/python\"", "\"lib/sitecustomize.py\""]);
    std::fs::remove_file(environment.join("bin/python")).expect("removed");
    std::fs::remove_file(&module).expect("removed");
    std::fs::write(environment.join("more"), "").expect("written");
    let problem = check(&environment, Some(lock())).expect_err("four differences");
    assert!(problem.message().ends_with("and 1 more"), "{}", problem.message());
}

#[test]
fn without_a_whole_marker_or_with_another_lock_file_it_is_not_the_installation() {
    let Installed { environment, _home, .. } = installed();
    assert_eq!(check(&environment, None), Err(EnvironmentProblem::Incomplete));
    mark_complete(&environment, lock()).expect("marked");
    assert_eq!(check(&environment, Some(Digest::from_bytes(b"other"))), Err(EnvironmentProblem::OtherLock));
    let marker = environment.join(MARKER);
    let whole = std::fs::read_to_string(&marker).expect("a marker");
    std::fs::write(&marker, &whole[..whole.len() - 5]).expect("written");
    assert_eq!(check(&environment, None), Err(EnvironmentProblem::Incomplete));
}

#[tokio::test]
async fn what_is_incomplete_or_changed_is_refused_with_the_command_to_type() {
    let Installed { airbyte, environment, _home } = installed();
    let connector = ConnectorPolicy {
        run: Run::Package(PACKAGE.to_string()),
        version: "1.2.3".to_string(),
        sha256: None,
        config: Map::new(),
        hosts: Vec::new(),
        posts: Vec::new(),
        readable: Vec::new(),
        memory: 1 << 29,
        streams: Vec::new(),
    };
    let compared = Compared::default();
    let failure = compared.check(&airbyte, &connector, "acme").await.expect_err("no marker");
    assert_eq!(
        (failure.class, failure.fix.as_str()),
        (Class::Misconfigured, "run aam airbyte install source-acme --version 1.2.3 again")
    );
    assert!(failure.title.contains("is incomplete"), "{failure:?}");

    mark_complete(&environment, lock()).expect("marked");
    assert_eq!(compared.check(&airbyte, &connector, "acme").await, Ok(()));
    // A process compares an installation once; another process and `aam airbyte list` compare it again.
    std::fs::write(environment.join("lib/acme.py"), "VERSION = 2\n").expect("written");
    assert_eq!(compared.check(&airbyte, &connector, "acme").await, Ok(()));
    let failure = Compared::default().check(&airbyte, &connector, "acme").await.expect_err("a changed module");
    assert!(failure.class == Class::Misconfigured && failure.title.contains("lib/acme.py"), "{failure:?}");
    // Another lock file, and so another installation, is compared at once.
    std::fs::write(airbyte.lock_file(PACKAGE, "1.2.3"), "acme==2 with another size\n").expect("written");
    assert!(compared.check(&airbyte, &connector, "acme").await.is_err_and(|failure| failure.title.contains("another lock file")));

    std::fs::remove_dir_all(&environment).expect("removed");
    assert_eq!(compared.check(&airbyte, &connector, "acme").await, Ok(()), "the search for its program names it");
    let command = ConnectorPolicy { run: Run::Command(vec!["/bin/acme".to_string()]), ..connector };
    assert_eq!(compared.check(&airbyte, &command, "acme").await, Ok(()));
}
