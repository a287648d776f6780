//! `aam airbyte install` and `list`: the built binary with a package index that is a folder of this test.

use crate::support::daemon::{Workspace, intent_with_locator, stderr, stdout, until};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Builds a wheel of a connector with one dependency, without any network. Arguments: the folder and the version of the
/// dependency.
const BUILD: &str = r#"
import base64, hashlib, sys, zipfile
folder, base = sys.argv[1], sys.argv[2]
def wheel(name, version, files, requires=(), scripts=""):
    info = f"{name}-{version}.dist-info"
    files = dict(files)
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n" + "".join(f"Requires-Dist: {one}\n" for one in requires)
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    if scripts:
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{scripts}\n"
    record = ""
    with zipfile.ZipFile(f"{folder}/{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            data = text.encode()
            archive.writestr(zipfile.ZipInfo(path), data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record += f"{path},sha256={digest},{len(data)}\n"
        archive.writestr(zipfile.ZipInfo(f"{info}/RECORD"), record + f"{info}/RECORD,,\n")
wheel("acme_base", base, {"acme_base.py": f"VERSION = '{base}'\n"})
wheel("airbyte_source_acme", "1.2.3", {"source_acme.py": "import acme_base\ndef run():\n    print('runs with', acme_base.VERSION)\n"}, ["acme-base"], "source-acme=source_acme:run")
wheel("airbyte_source_bare", "1.0.0", {"source_bare.py": ""})
"#;

/// Whether this machine has a Python for connectors, with venv and pip.
fn has_python() -> bool {
    let works = ["python3.11", "python3"].into_iter().any(|program| {
        let code = "import sys, venv, ensurepip; sys.exit(0 if (3, 10) <= sys.version_info[:2] <= (3, 12) else 1)";
        Command::new(program).args(["-c", code]).output().is_ok_and(|output| output.status.success())
    });
    if !works {
        eprintln!("SKIPPED: this machine does not have Python 3.10 to 3.12 with venv, so aam airbyte install was not tested");
    }
    works
}

fn build(folder: &Path, base: &str) {
    std::fs::create_dir_all(folder).expect("a folder");
    let output = Command::new("python3").args(["-c", BUILD]).arg(folder).arg(base).output().expect("python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn airbyte(workspace: &Workspace, packages: &Path, arguments: &[&str]) -> Output {
    let arguments: Vec<&str> = ["airbyte"].iter().chain(arguments).copied().collect();
    let mut command = workspace.command(&arguments);
    // The operator's own configuration of pip is what aam uses; here it is a folder.
    command.env("PIP_NO_INDEX", "1").env("PIP_FIND_LINKS", packages).env("PIP_CONFIG_FILE", "/dev/null");
    command.output().expect("the binary runs")
}

fn value(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap_or_else(|error| panic!("{error}: {} {}", stdout(output), stderr(output)))
}

#[test]
fn a_connector_is_installed_pinned_and_installed_again_from_its_lock() {
    if !has_python() {
        return;
    }
    let workspace = Workspace::new();
    workspace.write_policy("");
    let packages = workspace.path("packages");
    build(&packages, "1.0");
    let run = |arguments: &[&str]| airbyte(&workspace, &packages, arguments);

    let unknown = run(&["install", "source-acme"]);
    assert_eq!(unknown.status.code(), Some(64), "{}", stderr(&unknown));
    assert!(stderr(&unknown).contains("pip index versions airbyte-source-acme"), "{}", stderr(&unknown));

    let installed = run(&["install", "source-acme", "--version", "1.2.3", "--format", "json"]);
    assert!(installed.status.success(), "{}", stderr(&installed));
    let installed = value(&installed);
    assert_eq!((&installed["packages"], &installed["in_policy"]), (&Value::from(2), &Value::from(false)));
    let lock = workspace.path("var/airbyte/source-acme-1.2.3.lock");
    let text = std::fs::read_to_string(&lock).expect("a lock file");
    assert!(
        text.contains("acme-base==1.0 --hash=sha256:") && text.contains("airbyte-source-acme==1.2.3 --hash=sha256:"),
        "{text}"
    );
    let folder = workspace.path("var/airbyte/source-acme-1.2.3");
    let connector = || {
        let output = Command::new(folder.join("bin/python")).arg(folder.join("bin/source-acme")).output().expect("the connector");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(connector(), "runs with 1.0\n");
    assert!(!folder.join("install-report.json").exists(), "the report names the index");

    // The printed lines are what the policy takes, and the list then agrees with it.
    workspace.write_policy(installed["policy"].as_str().expect("lines for the policy"));
    let list = run(&["list", "--format", "json"]);
    assert!(list.status.success(), "{}", stderr(&list));
    assert_eq!((&value(&list)[0]["agrees"], &value(&list)[0]["source_types"][0]), (&Value::from(true), &Value::from("acme")));

    // A newer dependency appears. The lock file still decides.
    build(&packages, "2.0");
    std::fs::remove_dir_all(&folder).expect("removed");
    let list = run(&["list"]);
    assert_eq!(list.status.code(), Some(2), "{}", stdout(&list));
    assert!(stdout(&list).contains("fix: aam airbyte install source-acme --version 1.2.3"), "{}", stdout(&list));
    let again = run(&["install", "source-acme"]);
    assert!(again.status.success() && stdout(&again).contains("the policy names this version"), "{}", stderr(&again));
    assert_eq!((connector().as_str(), std::fs::read_to_string(&lock).ok()), ("runs with 1.0\n", Some(text.clone())));

    // A package with another content is refused, and so is another lock file.
    let wheel = packages.join("acme_base-1.0-py3-none-any.whl");
    let mut bytes = std::fs::read(&wheel).expect("a wheel");
    bytes.push(0);
    std::fs::write(&wheel, bytes).expect("written");
    let refused = run(&["install", "source-acme"]);
    assert_eq!(refused.status.code(), Some(1), "{}", stdout(&refused));
    assert!(stderr(&refused).to_lowercase().contains("hash"), "{}", stderr(&refused));
    assert_eq!(connector(), "runs with 1.0\n", "the connector that worked is still there");
    assert!(run(&["list"]).status.success(), "and it is whole");
    assert_eq!(std::fs::read_dir(workspace.path("var/airbyte")).expect("a folder").count(), 2, "nothing else is left behind");
    std::fs::write(&lock, text.replace("acme-base==1.0", "acme-base==2.0")).expect("written");
    let refused = run(&["install", "source-acme"]);
    assert!(
        stderr(&refused).contains("is not the one of the policy") && stderr(&refused).contains("--renew"),
        "{}",
        stderr(&refused)
    );
    let renewed = run(&["install", "source-acme", "--renew"]);
    assert!(renewed.status.success() && stderr(&renewed).contains("other packages"), "{}", stderr(&renewed));
    assert_eq!(connector(), "runs with 2.0\n");
    assert_eq!(run(&["list"]).status.code(), Some(2));
}

/// Installs source-acme 1.2.3 and writes the policy that names it.
fn installed(workspace: &Workspace, packages: &Path) {
    workspace.write_policy("");
    build(packages, "1.0");
    let arguments = ["install", "source-acme", "--version", "1.2.3", "--format", "json"];
    let installed = airbyte(workspace, packages, &arguments);
    assert!(installed.status.success(), "{}", stderr(&installed));
    let lines = value(&installed)["policy"].as_str().expect("lines for the policy").to_string();
    workspace.write_policy(&format!("allowlist: [acme]\n{lines}"));
}

#[tokio::test]
async fn an_installation_that_is_killed_leaves_the_connector_that_worked() {
    if !has_python() {
        return;
    }
    let workspace = Workspace::new();
    let packages = workspace.path("packages");
    installed(&workspace, &packages);

    // A Python that makes half an environment and then hangs until aam has ended.
    let python = workspace.path("python3.11");
    let script = "#!/bin/sh\nif [ \"$2\" = -c ]; then echo 3 11; exit; fi\nmkdir -p \"$4/bin\" && : > \"$4/bin/half\"\nexec tail --pid=$PPID -f /dev/null\n";
    std::fs::write(&python, script).expect("a script");
    std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let python = python.display().to_string();
    let mut command = workspace.command(&["airbyte", "install", "source-acme", "--python", &python]);
    let mut installing = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs");
    let folder = workspace.path("var/airbyte");
    let entries = || -> Vec<String> {
        let entries = std::fs::read_dir(&folder).expect("a folder").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    until("the environment is made", || {
        let is_half = entries().iter().any(|name| folder.join(name).join("bin/half").exists());
        async move { (is_half, String::new()) }
    })
    .await;
    installing.kill().expect("killed");
    installing.wait().expect("ended");

    let list = airbyte(&workspace, &packages, &["list"]);
    assert!(list.status.success(), "{}", stdout(&list));
    let bin = folder.join("source-acme-1.2.3/bin");
    let output = Command::new(bin.join("source-acme")).output().expect("the script names the Python beside it");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "runs with 1.0\n");
    assert_eq!(entries().len(), 3, "{:?}", entries());
    let again = airbyte(&workspace, &packages, &["install", "source-acme"]);
    assert!(again.status.success(), "{}", stderr(&again));
    assert_eq!(entries().len(), 2, "{:?}", entries());
}

#[tokio::test]
async fn an_installation_that_was_changed_or_is_incomplete_does_not_run() {
    if !has_python() {
        return;
    }
    let mut workspace = Workspace::new();
    let packages = workspace.path("packages");
    installed(&workspace, &packages);
    workspace.set("ACME", r#"{"token": "acme-token-77"}"#);
    let environment = workspace.path("var/airbyte/source-acme-1.2.3");
    let libraries = std::fs::read_dir(environment.join("lib")).expect("a folder").flatten().next().expect("a Python").path();
    let module = libraries.join("site-packages/source_acme.py");
    let text = std::fs::read_to_string(&module).expect("the module of the connector");
    std::fs::write(&module, format!("{text}\nprint('changed')\n")).expect("written");

    let fix = "run aam airbyte install source-acme --version 1.2.3 again";
    let list = airbyte(&workspace, &packages, &["list"]);
    assert_eq!(list.status.code(), Some(2), "{}", stdout(&list));
    assert!(stdout(&list).contains("site-packages/source_acme.py") && stdout(&list).contains(fix), "{}", stdout(&list));
    let daemon = workspace.serve().await;
    let pushed = daemon.push(&intent_with_locator("acme", "acme", "env:ACME")).await.body;
    let path = format!("/connections/{}", pushed["connection_id"].as_str().expect("an id"));
    let changed = daemon.get(&path).await.body;
    assert_eq!((&changed["error"]["class"], &changed["error"]["fix"]), (&Value::from("misconfigured"), &Value::from(fix)));
    assert!(changed["error"]["title"].as_str().is_some_and(|title| title.contains("source_acme.py")), "{changed}");

    std::fs::write(&module, text).expect("written");
    std::fs::remove_file(environment.join("aam-installation")).expect("the marker");
    let list = airbyte(&workspace, &packages, &["list"]);
    assert_eq!(list.status.code(), Some(2), "{}", stdout(&list));
    assert!(stdout(&list).contains(&format!("incomplete: {fix}")), "{}", stdout(&list));
    daemon.post(&format!("{path}/heal"), &serde_json::json!({})).await;
    let incomplete = daemon.get(&path).await.body;
    assert_eq!((&incomplete["error"]["class"], &incomplete["error"]["fix"]), (&Value::from("misconfigured"), &Value::from(fix)));
    assert!(incomplete["error"]["title"].as_str().is_some_and(|title| title.contains("incomplete")), "{incomplete}");
}

#[test]
fn a_package_that_is_not_a_connector_or_does_not_exist_is_named() {
    if !has_python() {
        return;
    }
    let workspace = Workspace::new();
    workspace.write_policy("");
    let packages = workspace.path("packages");
    build(&packages, "1.0");
    for (name, version, text) in [
        ("source-bare", "1.0.0", "does not have the command source-bare"),
        ("source-acme", "9.9.9", "airbyte-source-acme==9.9.9"),
    ] {
        let output = airbyte(&workspace, &packages, &["install", name, "--version", version]);
        assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
        assert!(stderr(&output).contains(text) && stderr(&output).contains("fix:"), "{}", stderr(&output));
        let left = std::fs::read_dir(workspace.path("var/airbyte")).map(Iterator::count).unwrap_or_default();
        assert_eq!(left, 0, "nothing is left behind");
    }
}

#[test]
fn a_missing_python_is_named_with_its_package() {
    let workspace = Workspace::new();
    workspace.write_policy("");
    let arguments = ["install", "source-okta", "--python", "/nonexistent/python3.11"];
    let output = airbyte(&workspace, Path::new("/nonexistent"), &arguments);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    assert!(stderr(&output).contains("install the packages python3.11 and python3.11-venv"), "{}", stderr(&output));
}
