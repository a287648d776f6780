use super::*;
use rustix::fs::Mode;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

struct TestRoots {
    dir: tempfile::TempDir,
    files: Files,
}

/// `in/` is a root and `out/` is not. Both contain `a.csv`.
fn test_roots() -> TestRoots {
    let dir = tempfile::tempdir().unwrap();
    for name in ["in/sub", "out"] {
        std::fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    for name in ["in/a.csv", "in/sub/b.csv", "out/a.csv"] {
        std::fs::write(dir.path().join(name), "id\n1\n").unwrap();
    }
    let files = Files { roots: vec![dir.path().join("in")] };
    TestRoots { dir, files }
}

impl TestRoots {
    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self, name: &str, openat2: bool) -> Result<FilePlace, Failure> {
        open_in_roots_with(self.at(name).to_str().unwrap(), &self.files, openat2)
    }

    /// The failure class. Opening with and without `openat2` must agree.
    fn class(&self, name: &str) -> Option<Class> {
        let [new, old] = [true, false].map(|openat2| self.open(name, openat2).err().map(|failure| failure.class));
        assert_eq!(new, old, "{name}");
        new
    }
}

#[test]
fn files_and_directories_below_the_root_open() {
    let test_roots = test_roots();
    for name in ["in/a.csv", "in/sub/b.csv", "in", "in/sub"] {
        assert_eq!(test_roots.class(name), None, "{name}");
    }
    assert!(test_roots.open("in", true).unwrap().entry.stat.directory);
    let found = test_roots.open("in/a.csv", true).unwrap();
    assert_eq!((found.entry.stat.size, found.relative.as_path()), (5, Path::new("a.csv")));
}

#[test]
fn outside_is_refused_and_missing_is_not_found() {
    let test_roots = test_roots();
    assert_eq!(test_roots.class("out/a.csv"), Some(Class::Misconfigured));
    assert_eq!(test_roots.class("out/none.csv"), Some(Class::Misconfigured));
    assert_eq!(test_roots.class("in/none.csv"), Some(Class::NotFound));
    assert_eq!(test_roots.class("in/a.csv/b.csv"), Some(Class::NotFound));
    let sly = test_roots.at("in").join("..").join("out/a.csv");
    assert_eq!(open_in_roots(sly.to_str().unwrap(), &test_roots.files).unwrap_err().class, Class::Misconfigured);
    // The text of the root is a prefix of the path, but the path is not below the root.
    std::fs::create_dir(test_roots.at("inner")).unwrap();
    std::fs::write(test_roots.at("inner/a.csv"), "").unwrap();
    assert_eq!(test_roots.class("inner/a.csv"), Some(Class::Misconfigured));
    assert_eq!(open_in_roots("x.csv", &Files { roots: Vec::new() }).unwrap_err().class, Class::Misconfigured);
}

#[test]
fn links_may_not_leave_the_root() {
    let test_roots = test_roots();
    symlink("../out/a.csv", test_roots.at("in/relative.csv")).unwrap();
    symlink(test_roots.at("out/a.csv"), test_roots.at("in/absolute.csv")).unwrap();
    symlink("../out", test_roots.at("in/parent")).unwrap();
    symlink("round.csv", test_roots.at("in/round.csv")).unwrap();
    symlink("parent/a.csv", test_roots.at("in/chain.csv")).unwrap();
    symlink("/proc/self/exe", test_roots.at("in/magic.csv")).unwrap();
    for name in
        ["in/relative.csv", "in/absolute.csv", "in/parent/a.csv", "in/parent", "in/round.csv", "in/chain.csv", "in/magic.csv"]
    {
        assert_eq!(test_roots.class(name), Some(Class::Misconfigured), "{name}");
    }
    let failure = test_roots.open("in/relative.csv", true).unwrap_err();
    assert!(failure.title.contains("/in, or is part of a link loop"), "{failure:?}");
    assert!(failure.fix.contains("files.roots"), "{failure:?}");
}

#[test]
fn links_that_stay_below_the_root_are_followed() {
    let test_roots = test_roots();
    symlink("sub/b.csv", test_roots.at("in/relative.csv")).unwrap();
    symlink(test_roots.at("in/sub/b.csv"), test_roots.at("in/absolute.csv")).unwrap();
    symlink("sub/../a.csv", test_roots.at("in/back.csv")).unwrap();
    for name in ["in/relative.csv", "in/absolute.csv", "in/back.csv"] {
        assert_eq!(test_roots.class(name), None, "{name}");
    }
    // The root and the path are each reached by another name.
    symlink(test_roots.at("in"), test_roots.at("alias")).unwrap();
    assert_eq!(test_roots.class("alias/a.csv"), None);
    let files = Files { roots: vec![test_roots.at("alias")] };
    for name in ["alias/a.csv", "in/a.csv"] {
        assert!(open_in_roots(test_roots.at(name).to_str().unwrap(), &files).is_ok(), "{name}");
    }
    // The outer root allows what the inner one refuses.
    symlink("../out/a.csv", test_roots.at("in/up.csv")).unwrap();
    let files = Files { roots: vec![test_roots.at("in"), test_roots.dir.path().to_owned()] };
    assert!(open_in_roots(test_roots.at("in/up.csv").to_str().unwrap(), &files).is_ok());
}

/// The answer for a path, without the path itself.
fn answer(result: Result<FilePlace, Failure>, name: &str) -> String {
    let failure = result.unwrap_err();
    format!("{}: {} {} {}", failure.class.as_str(), failure.title, failure.fix, failure.detail).replace(name, "NAME")
}

#[test]
fn nothing_outside_the_roots_can_be_distinguished() {
    let test_roots = test_roots();
    std::fs::create_dir(test_roots.at("out/dir")).unwrap();
    std::fs::write(test_roots.at("out/file"), "").unwrap();
    let answers = |names: &[&str]| -> std::collections::BTreeSet<String> {
        let each = |name: &&str| [true, false].map(|openat2| answer(test_roots.open(name, openat2), name));
        names.iter().flat_map(each).collect()
    };
    for pair in [["out/a.csv", "out/n.csv"], ["out/file", "out/none"], ["out/dir", "out/no"]] {
        assert_eq!(answers(&pair).len(), 1, "{pair:?}");
    }
    // Links that lead out.
    symlink("../out", test_roots.at("in/parent")).unwrap();
    symlink("../out/a.csv", test_roots.at("in/there.csv")).unwrap();
    symlink("../out/none.csv", test_roots.at("in/gone.csv")).unwrap();
    symlink(test_roots.at("out/a.csv"), test_roots.at("in/there2.csv")).unwrap();
    symlink(test_roots.at("out/none.csv"), test_roots.at("in/gone2.csv")).unwrap();
    for pair in [["in/parent/a.csv", "in/parent/n.csv"], ["in/there.csv", "in/gone.csv"], ["in/there2.csv", "in/gone2.csv"]] {
        let answers = answers(&pair);
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert!(answers.iter().all(|answer| answer.starts_with("misconfigured")), "{answers:?}");
    }
    // A link that stays below the root may differ from one to a missing file.
    symlink(test_roots.at("in/none.csv"), test_roots.at("in/missing.csv")).unwrap();
    assert_eq!(test_roots.class("in/missing.csv"), Some(Class::NotFound));
}

#[test]
fn the_root_that_a_fix_suggests_opens_the_path() {
    let test_roots = test_roots();
    std::fs::create_dir(test_roots.at("out 2")).unwrap();
    std::fs::write(test_roots.at("out 2/a.csv"), "id\n1\n").unwrap();
    for name in ["out/a.csv", "out", "out 2/a.csv"] {
        let id = test_roots.at(name).display().to_string();
        let failure = test_roots.open(name, true).unwrap_err();
        let (_, yaml) = failure.fix.split_once("policy.yaml: ").unwrap();
        let text = format!("version: 1\nallowlist: [filesource]\n{yaml}\n");
        let policy = crate::policy::parse::parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
        assert!(open_in_roots(&id, &policy.files).is_ok(), "{}", failure.fix);
        // The roots that the policy had are kept.
        assert!(open_in_roots(test_roots.at("in/a.csv").to_str().unwrap(), &policy.files).is_ok(), "{}", failure.fix);
    }
    for id in ["/etc/passwd", "/etc", "/root/.ssh/a.csv", "/home/a.csv", "/a.csv", "/proc/self/environ"] {
        let fix = open_in_roots(id, &test_roots.files).unwrap_err().fix;
        assert!(fix.starts_with("copy the file below ") && !fix.contains("files: {roots"), "{id}: {fix}");
    }
    let home = Files { roots: vec!["~/data".into()] };
    assert!(open_in_roots("/home/x/data/a.csv", &home).unwrap_err().fix.contains("does not expand ~"));
    assert!(open_in_roots("~/data/a.csv", &home).unwrap_err().fix.contains("does not expand ~"));
}

const UNPRIVILEGED: &str = "AAM_TEST_UNPRIVILEGED_ROOT";

/// Root may read everything. So a test of permissions runs again as uid 65534, in a process of its own.
#[test]
fn a_file_that_the_user_may_not_read_is_named_with_the_user() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    const UNPRIVILEGED_UID: u32 = 65_534;
    let mode = |path: &Path, mode: u32| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    if let Ok(root) = std::env::var(UNPRIVILEGED) {
        assert!(!rustix::process::geteuid().is_root());
        return check_permissions(Path::new(&root));
    }
    let test_roots = test_roots();
    mode(test_roots.dir.path(), 0o755);
    let closed = [test_roots.at("in/a.csv"), test_roots.at("in/sub")];
    closed.iter().for_each(|path| mode(path, 0o000));
    if rustix::process::geteuid().is_root() {
        let name = std::thread::current().name().unwrap().to_owned();
        let run = |binary: &Path| {
            let mut child = std::process::Command::new(binary);
            child
                .args(["--exact", &name])
                .env(UNPRIVILEGED, test_roots.at("in"))
                .current_dir("/")
                .uid(UNPRIVILEGED_UID)
                .gid(UNPRIVILEGED_UID);
            child.output()
        };
        // The binary of the test may be below a directory that only root may enter.
        let output = run(&std::env::current_exe().unwrap()).unwrap_or_else(|_| {
            let copy = test_roots.at("test-binary");
            std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
            run(&copy).unwrap()
        });
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    } else {
        check_permissions(&test_roots.at("in"));
    }
    // What the fix says leads out of the failure.
    mode(&closed[0], 0o644);
    mode(&closed[1], 0o755);
    assert_eq!((test_roots.class("in/a.csv"), test_roots.class("in/sub/b.csv")), (None, None));
}

fn check_permissions(root: &Path) {
    let uid = rustix::process::geteuid().as_raw();
    let files = Files { roots: vec![root.to_owned()] };
    for name in ["a.csv", "sub/b.csv", "sub"] {
        for openat2 in [true, false] {
            let failure = open_in_roots_with(root.join(name).to_str().unwrap(), &files, openat2).unwrap_err();
            assert_eq!(failure.class, Class::PermissionDenied, "{name}: {failure:?}");
            assert!(failure.title.starts_with(&format!("the daemon's user (uid {uid}) does not have")), "{failure:?}");
        }
    }
    let found = open_in_roots(root.to_str().unwrap(), &files).unwrap();
    let listing = crate::connectors::file::tree::list(&found.root, Path::new(""), &found.entry, 10).unwrap();
    assert!(listing.truncated && listing.skipped[0].reason.contains("does not have permission"), "{listing:?}");
}

#[test]
fn only_regular_files_are_opened() {
    let test_roots = test_roots();
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, test_roots.at("in/pipe.csv"), FileType::Fifo, mode, 0).unwrap();
    let _listener = UnixListener::bind(test_roots.at("in/socket.csv")).unwrap();
    for (name, kind) in [("in/pipe.csv", "a named pipe"), ("in/socket.csv", "a socket")] {
        for openat2 in [true, false] {
            let failure = test_roots.open(name, openat2).unwrap_err();
            assert_eq!(failure.class, Class::Misconfigured);
            assert!(failure.title.contains(kind), "{failure:?}");
        }
    }
    let device = open_in_roots("/dev/null", &Files { roots: vec!["/dev".into()] }).unwrap_err();
    assert!(device.title.contains("a device"), "{device:?}");
}

#[test]
fn a_link_swapped_between_two_opens_does_not_help() {
    let test_roots = test_roots();
    let found = test_roots.open("in/sub", true).unwrap();
    std::fs::remove_dir_all(test_roots.at("in/sub")).unwrap();
    symlink("../out", test_roots.at("in/sub")).unwrap();
    let failure = found.root.open_below(Path::new("sub/a.csv")).unwrap_err();
    assert_eq!(failure.class, Class::Misconfigured);
}

#[test]
fn writable_agrees_with_an_open_for_writing() {
    use std::os::unix::fs::PermissionsExt;
    let test_roots = test_roots();
    for mode in [0o644, 0o444] {
        std::fs::set_permissions(test_roots.at("in/a.csv"), std::fs::Permissions::from_mode(mode)).unwrap();
        let truth = std::fs::OpenOptions::new().append(true).open(test_roots.at("in/a.csv")).is_ok();
        let found = test_roots.open("in/a.csv", true).unwrap();
        assert_eq!(found.root.writable(&found.relative), Ok(truth), "{mode:o}");
    }
}

#[test]
fn absolute_does_not_touch_the_file_system() {
    let here = std::env::current_dir().unwrap();
    assert_eq!(absolute(Path::new("./a/./b")).unwrap(), here.join("a/b"));
    assert_eq!(absolute(Path::new("/a/b/")).unwrap(), Path::new("/a/b"));
    assert_eq!(absolute(Path::new("../x")).unwrap(), here.parent().unwrap().join("x"));
    assert!(absolute(Path::new("a/../b")).is_err());
}

/// Every failure that opening a path can produce, in the form in which people read it.
#[test]
fn every_failure_has_a_remedy() {
    let test_roots = test_roots();
    let found = test_roots.open("in/a.csv", true).unwrap();
    let shown = found.root.display_path(&found.relative);
    let mut text = String::new();
    let mut show = |failure: &Failure| {
        let entry =
            format!("{}\n  {}\n  fix: {}\n  detail: {}\n", failure.class.as_str(), failure.title, failure.fix, failure.detail);
        let uid = format!("{}", rustix::process::geteuid().as_raw());
        let entry = entry.replace(&format!("(uid {uid})"), "(uid <uid>)").replace(&format!("u:{uid}:"), "u:<uid>:");
        text.push_str(&entry.replace(test_roots.dir.path().to_str().unwrap(), "<dir>"));
    };
    for errno in [Errno::XDEV, Errno::LOOP, Errno::NOENT, Errno::ACCESS, Errno::NAMETOOLONG, Errno::NXIO, Errno::IO, Errno::STALE]
    {
        show(&found.root.failure(errno, &shown));
    }
    show(&open_in_roots("data/a.csv", &Files { roots: Vec::new() }).unwrap_err());
    show(&test_roots.open("out/a.csv", true).unwrap_err());
    show(&test_roots.open("out", true).unwrap_err());
    show(&open_in_roots("/etc/passwd", &test_roots.files).unwrap_err());
    show(&open_in_roots("~/a.csv", &Files { roots: vec!["$HOME/data".into()] }).unwrap_err());
    let gone = Files { roots: vec![test_roots.at("gone")] };
    show(&open_in_roots(test_roots.at("gone/a.csv").to_str().unwrap(), &gone).unwrap_err());
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("file_place_failures", text);
    });
}
