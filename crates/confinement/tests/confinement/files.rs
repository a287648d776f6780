//! Files and directories.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use confinement::Error;

use crate::{ATTEMPTS, enforceable, lines, python_lines, python_plan, run, shell_plan, spawn};

#[tokio::test]
async fn a_program_reads_what_is_listed_and_nothing_else() {
    if !enforceable("files").await {
        return;
    }
    let others = tempfile::tempdir().unwrap();
    let listed = others.path().join("listed");
    let secret = others.path().join("secret");
    fs::write(&listed, "listed\n").unwrap();
    fs::write(&secret, "secret\n").unwrap();
    let script = format!(
        "{ATTEMPTS}
attempt('listed', lambda: open({listed:?}).read())
attempt('secret', lambda: open({secret:?}).read())
attempt('folder', lambda: __import__('os').listdir({folder:?}))
attempt('passwd', lambda: open('/etc/passwd').read())
attempt('proc', lambda: open('/proc/1/environ').read())
attempt('execute', lambda: __import__('os').execv('/bin/true', ['true']))
",
        folder = others.path()
    );
    let (mut plan, _directory) = python_plan(&script);
    plan.readable.push(listed);
    let expected = ["listed allowed", "secret EACCES", "folder EACCES", "passwd EACCES", "proc EACCES", "execute EACCES"];
    assert_eq!(lines(&run(&plan).await), expected);
}

#[tokio::test]
async fn a_program_writes_in_its_directory_and_nowhere_else() {
    if !enforceable("files").await {
        return;
    }
    let others = tempfile::tempdir().unwrap();
    let existing = others.path().join("existing");
    let new = others.path().join("new");
    fs::write(&existing, "before").unwrap();
    let script = format!(
        "{ATTEMPTS}
import os
attempt('own', lambda: open('own', 'w').write('x'))
attempt('own folder', lambda: os.mkdir('folder'))
attempt('own rename', lambda: os.rename('own', 'folder/own'))
attempt('append', lambda: open({existing:?}, 'a'))
attempt('truncate', lambda: os.truncate({existing:?}, 0))
attempt('remove', lambda: os.remove({existing:?}))
attempt('create', lambda: open({new:?}, 'w'))
attempt('rename', lambda: os.rename('folder/own', {new:?}))
attempt('link', lambda: os.link({existing:?}, 'linked'))
attempt('symlink', lambda: os.symlink({existing:?}, 'linked'))
"
    );
    let (plan, directory) = python_plan(&script);
    let outcome = lines(&run(&plan).await);
    assert_eq!(outcome[..3], ["own allowed", "own folder allowed", "own rename allowed"]);
    for line in &outcome[3..] {
        assert!(line.ends_with(" EACCES") || line.ends_with(" EXDEV"), "{line}");
    }
    assert_eq!(outcome.len(), 10);
    assert_eq!(fs::read_to_string(&existing).unwrap(), "before");
    assert!(!new.exists());
    // What the program wrote is closed to other users.
    let mode = fs::metadata(directory.path().join("folder/own")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn mode_owner_times_and_attributes_of_other_files_stay() {
    if !enforceable("files").await {
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path();
    let script = format!(
        "{ATTEMPTS}
import os
attempt('mode', lambda: os.chmod({path:?}, 0o777))
attempt('owner', lambda: os.chown({path:?}, -1, -1))
attempt('times', lambda: os.utime({path:?}, (1, 1)))
attempt('attribute', lambda: os.setxattr({path:?}, 'user.a', b'b'))
"
    );
    let before = fs::metadata(path).unwrap();
    assert_eq!(python_lines(&script).await, ["mode EPERM", "owner EPERM", "times EPERM", "attribute EPERM"]);
    let after = fs::metadata(path).unwrap();
    assert_eq!(before.permissions().mode(), after.permissions().mode());
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
}

#[tokio::test]
async fn shared_memory_is_the_programs_own_and_small() {
    if !enforceable("shared memory").await {
        return;
    }
    let name = format!("confinement-test-{}", std::process::id());
    let script = format!(
        "{ATTEMPTS}
import multiprocessing
with multiprocessing.Pool(2) as pool:
    print(pool.map(abs, [-1, -2]))
attempt('small', lambda: open('/dev/shm/{name}', 'w').write('x'))
attempt('large', lambda: open('/dev/shm/large', 'wb').write(bytes(20 << 20)))
"
    );
    assert_eq!(python_lines(&script).await, ["[1, 2]", "small allowed", "large ENOSPC"]);
    assert!(!std::path::Path::new("/dev/shm").join(name).exists(), "the file is visible outside");
}

#[tokio::test]
async fn the_environment_holds_what_is_listed_and_the_input_is_empty() {
    if !enforceable("environment").await {
        return;
    }
    let (mut plan, directory) = shell_plan("env; cat; pwd");
    plan.program = "/usr/bin/env".into();
    plan.arguments = ["sh", "-c", "env | grep -v -e ^_= -e ^PWD= | sort; cat; echo in $(pwd)"].map(String::from).to_vec();
    plan.environment =
        [("PATH", "/usr/bin:/bin"), ("A", "b"), ("HTTPS_PROXY", "{proxy}")].map(|(n, v)| (n.into(), v.into())).to_vec();
    let folder = directory.path().canonicalize().unwrap();
    let expected = ["A=b", "HTTPS_PROXY=http://127.0.0.1:3128", "PATH=/usr/bin:/bin", &format!("in {}", folder.display())];
    assert_eq!(lines(&run(&plan).await), expected);
}

#[tokio::test]
async fn a_path_that_does_not_exist_is_named_and_nothing_runs() {
    if !enforceable("errors").await {
        return;
    }
    let (mut plan, _directory) = shell_plan("exit 0");
    plan.readable.push("/does/not/exist".into());
    let error = spawn(&plan).await.unwrap_err();
    assert!(matches!(&error, Error::NotStarted(reason) if reason.contains("/does/not/exist")), "{error}");

    let (mut plan, directory) = shell_plan("exit 0");
    let script = directory.path().join("script");
    fs::write(&script, "#!/not/there\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    plan.program = script;
    let error = spawn(&plan).await.unwrap_err().to_string();
    assert!(error.contains("script could not be executed") && error.contains("interpreter"), "{error}");
}
