use super::*;
use serde_json::Map;

fn connector(run: Run, sha256: Option<String>) -> ConnectorPolicy {
    ConnectorPolicy {
        run,
        version: "1.2.3".to_string(),
        sha256,
        config: Map::new(),
        hosts: Vec::new(),
        posts: Vec::new(),
        memory: 1 << 29,
        streams: Vec::new(),
    }
}

fn executable(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("created");
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("executable");
}

#[test]
fn a_package_is_its_environment_and_the_interpreter_it_was_made_from() {
    let home = tempfile::tempdir().expect("a folder");
    let root = home.path().canonicalize().expect("a path");
    let airbyte = Airbyte { dir: root.join("airbyte"), ..Airbyte::default() };
    let package = Run::Package("airbyte-source-okta".to_string());
    let missing = find(&airbyte, &connector(package.clone(), None), "okta").expect_err("not installed");
    assert_eq!(missing.fix, "run aam airbyte install source-okta --version 1.2.3");
    executable(&root.join("python/bin/python3.11"), "");
    let environment = airbyte.environment("airbyte-source-okta", "1.2.3");
    executable(&environment.join("bin/source-okta"), "#!/usr/bin/python\n");
    std::os::unix::fs::symlink(root.join("python/bin/python3.11"), environment.join("bin/python")).expect("a link");
    std::fs::write(environment.join("pyvenv.cfg"), format!("home = {}\n", root.join("python/bin").display())).expect("written");
    let found = find(&airbyte, &connector(package.clone(), None), "okta").expect("installed");
    assert_eq!(found.program, environment.join("bin/python"));
    assert_eq!(found.arguments, [environment.join("bin/source-okta").display().to_string()]);
    assert!(found.readable.contains(&environment) && found.readable.contains(&root.join("python")), "{found:?}");
    assert!(found.executable.contains(&root.join("python/bin/python3.11")), "{found:?}");
    assert!(!found.readable.contains(&root), "{found:?}");
    let lock = airbyte.lock_file("airbyte-source-okta", "1.2.3");
    std::fs::write(&lock, "a==1").expect("written");
    let digest = Digest::from_bytes(b"a==1").to_string();
    assert!(find(&airbyte, &connector(package.clone(), Some(digest.clone())), "okta").is_ok());
    std::fs::write(&lock, "a==2").expect("written");
    let differs = find(&airbyte, &connector(package, Some(digest)), "okta").expect_err("another lock");
    assert!(differs.title.ends_with("its SHA-256 differs"), "{differs:?}");
}

#[test]
fn a_script_is_started_by_its_interpreter_and_brings_only_its_own_files() {
    let home = tempfile::tempdir().expect("a folder");
    let root = home.path().canonicalize().expect("a path");
    executable(&root.join("source/bin/source-x"), "#!/bin/sh -e\n");
    std::fs::write(root.join("option.json"), "{}").expect("written");
    let command = vec![
        root.join("source/bin/source-x").display().to_string(),
        root.join("option.json").display().to_string(),
        "-v".to_string(),
    ];
    let found = find(&Airbyte::default(), &connector(Run::Command(command.clone()), None), "x").expect("a program");
    assert_eq!(found.program, Path::new("/bin/sh"));
    assert_eq!(found.arguments, ["-e", command[0].as_str(), command[1].as_str(), "-v"]);
    assert!(found.readable.contains(&root.join("source")) && found.readable.contains(&root.join("option.json")));
    assert!(!found.readable.contains(&root) && !found.readable.iter().any(|path| is_system(path)), "{found:?}");
    executable(&root.join("source/bin/source-x"), "#!/bin/sh -e\n# changed\n");
    let changed = find(&Airbyte::default(), &connector(Run::Command(command), None), "x").expect("a program");
    assert_ne!(changed.stamp, found.stamp);
}

#[test]
fn what_cannot_be_started_is_named() {
    let home = tempfile::tempdir().expect("a folder");
    let failed = |command: &str, sha256: Option<&str>| {
        let connector = connector(Run::Command(vec![command.to_string()]), sha256.map(str::to_string));
        find(&Airbyte::default(), &connector, "x").expect_err(command)
    };
    assert!(failed("no-such-program-of-aam", None).title.contains("was not found"));
    let shim = home.path().join("shims/python3");
    executable(&shim, "#!/bin/sh\nexec python\n");
    assert!(failed(&shim.display().to_string(), None).title.contains("chooses an interpreter"));
    assert!(failed("/bin/sh", Some("00")).title.contains("SHA-256 differs"));
    let image = connector(Run::Image("airbyte/source-okta".to_string()), None);
    let failure = find(&Airbyte::default(), &image, "okta").expect_err("an image");
    assert_eq!(failure.class, Class::Unsupported);
    assert!(
        failure.fix.contains("aam airbyte install source-okta") && failure.fix.contains("airbyte-source-okta"),
        "{failure:?}"
    );
}
