use super::*;
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
        text.push_str(&entry.replace(test_roots.dir.path().to_str().unwrap(), "<dir>"));
    };
    for errno in [Errno::XDEV, Errno::LOOP, Errno::NOENT, Errno::ACCESS, Errno::NAMETOOLONG, Errno::NXIO, Errno::IO, Errno::STALE]
    {
        show(&found.root.failure(errno, &shown));
    }
    show(&open_in_roots("data/a.csv", &Files { roots: Vec::new() }).unwrap_err());
    show(&test_roots.open("out/a.csv", true).unwrap_err());
    show(&test_roots.open("out", true).unwrap_err());
    let gone = Files { roots: vec![test_roots.at("gone")] };
    show(&open_in_roots(test_roots.at("gone/a.csv").to_str().unwrap(), &gone).unwrap_err());
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("file_place_failures", text);
    });
}
