use super::super::places::OwnPaths;
use super::*;
use crate::policy::Policy;
use crate::policy::parse::parse;
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
        readable: Vec::new(),
    }
}

/// As [`super::find`], with the places of a policy that has only defaults.
fn find(airbyte: &Airbyte, connector: &ConnectorPolicy, name: &str) -> Result<Program, Failure> {
    find_beside(airbyte, connector, name, &OwnPaths::default())
}

/// As [`find`], beside these files of AAM.
fn find_beside(airbyte: &Airbyte, connector: &ConnectorPolicy, name: &str, own: &OwnPaths) -> Result<Program, Failure> {
    let policy = parse("version: 1\nallowlist: []\n", "policy.yaml").expect("a policy");
    let policy = Policy { airbyte: airbyte.clone(), ..policy };
    super::find(airbyte, connector, name, &Places::new(&policy, own))
}

fn command(parts: &[&Path]) -> Run {
    Run::Command(parts.iter().map(|part| part.display().to_string()).collect())
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
    executable(&root.join("python/lib/python3.11/os.py"), "");
    let environment = airbyte.environment("airbyte-source-okta", "1.2.3");
    executable(&environment.join("bin/source-okta"), "#!/usr/bin/python\n");
    std::os::unix::fs::symlink(root.join("python/bin/python3.11"), environment.join("bin/python")).expect("a link");
    std::fs::write(environment.join("pyvenv.cfg"), format!("home = {}\n", root.join("python/bin").display())).expect("written");
    let found = find(&airbyte, &connector(package.clone(), None), "okta").expect("installed");
    assert_eq!(found.program, environment.join("bin/python"));
    assert_eq!(found.arguments, [environment.join("bin/source-okta").display().to_string()]);
    assert!(found.readable.contains(&environment) && found.readable.contains(&root.join("python/lib")), "{found:?}");
    assert!(found.executable.contains(&root.join("python/bin/python3.11")), "{found:?}");
    assert!(![&root, &root.join("python")].iter().any(|path| found.readable.contains(path)), "{found:?}");
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
    assert!(found.readable.contains(&root.join("source/bin/source-x")) && found.readable.contains(&root.join("option.json")));
    let folders = [&root, &root.join("source"), &root.join("source/bin"), Path::new("/bin")];
    assert!(!folders.iter().any(|folder| found.readable.iter().any(|path| path == folder)), "{found:?}");
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

/// What a connector may read below `root`, without the parts of Python.
fn readable(found: &Program, root: &Path) -> Vec<PathBuf> {
    found.readable.iter().filter_map(|path| path.strip_prefix(root).ok()).map(Path::to_path_buf).collect()
}

#[test]
fn what_is_beside_a_program_or_a_script_stays_closed() {
    let home = tempfile::tempdir().expect("a folder");
    let root = home.path().canonicalize().expect("a path");
    for file in ["var/secrets/VENDOR", "var/aam.db.admin-token", ".aws/credentials", "bin/source-acme", "bin/python3", "acme.py"]
    {
        executable(&root.join(file), "#!/bin/sh\n");
    }
    // A program named python that is a script chooses an interpreter, so this one is a binary.
    executable(&root.join("bin/python3"), "");
    let (script, program, python) = (root.join("acme.py"), root.join("bin/source-acme"), root.join("bin/python3"));
    for (run, expected) in [
        (command(&[&python, &script]), vec!["acme.py", "bin/python3"]),
        (command(&[&program]), vec!["bin/source-acme"]),
        (command(&[&program, &root.join("var")]), vec!["bin/source-acme"]),
    ] {
        let found = find(&Airbyte::default(), &connector(run.clone(), None), "acme").expect("a program");
        assert_eq!(readable(&found, &root), expected.iter().map(PathBuf::from).collect::<Vec<_>>(), "{run:?}");
    }
}

#[test]
fn the_standard_library_and_a_virtual_environment_are_readable_and_the_rest_of_a_prefix_is_not() {
    let home = tempfile::tempdir().expect("a folder");
    let root = home.path().canonicalize().expect("a path");
    // A Python below ~/.local, beside the keys and the packages of a person.
    executable(&root.join("local/bin/python3"), "");
    executable(&root.join("local/lib/python3.12/os.py"), "");
    executable(&root.join("local/share/keyrings/login"), "");
    let run = command(&[&root.join("local/bin/python3")]);
    let found = find(&Airbyte::default(), &connector(run, None), "acme").expect("a program");
    assert_eq!(readable(&found, &root.join("local")), [PathBuf::from("bin/python3"), PathBuf::from("lib")]);
    let environment = root.join("venv");
    executable(&environment.join("bin/source-acme"), "#!/bin/sh\n");
    std::fs::write(environment.join("pyvenv.cfg"), "").expect("written");
    let run = command(&[&environment.join("bin/source-acme")]);
    let found = find(&Airbyte::default(), &connector(run, None), "acme").expect("a program");
    assert!(found.readable.contains(&environment), "{found:?}");
}

#[test]
fn the_policy_opens_further_files_but_none_of_aam() {
    let home = tempfile::tempdir().expect("a folder");
    let root = home.path().canonicalize().expect("a path");
    executable(&root.join("acme/run.sh"), "#!/bin/sh\n");
    executable(&root.join("acme/modules/one.py"), "");
    executable(&root.join("var/aam.db"), "");
    let own = OwnPaths { registry: root.join("var/aam.db"), policy: root.join("policy.yaml"), intents: root.join("intents") };
    let with = |readable: &[PathBuf]| {
        let run = command(&[&root.join("acme/run.sh")]);
        let connector = ConnectorPolicy { readable: readable.to_vec(), ..connector(run, None) };
        find_beside(&Airbyte::default(), &connector, "acme", &own)
    };
    let found = with(&[root.join("acme/modules")]).expect("a program");
    assert!(found.readable.contains(&root.join("acme/modules")), "{found:?}");
    let missing = with(&[root.join("acme/module")]).expect_err("missing");
    assert!(missing.title.contains("airbyte.connectors.acme.readable was not found"), "{missing:?}");
    for path in [root.clone(), root.join("var"), root.join("var/aam.db"), PathBuf::from("/etc"), PathBuf::from("/")] {
        let refused = with(std::slice::from_ref(&path)).expect_err("refused");
        assert_eq!(refused.class, Class::Misconfigured);
        assert!(refused.title.starts_with("acme was not started: it could read"), "{refused:?}");
    }
    // A file that the command names is refused for the same reason.
    let run = command(&[&root.join("acme/run.sh"), &root.join("var/aam.db")]);
    assert!(find_beside(&Airbyte::default(), &connector(run, None), "acme", &own).is_err());
}
