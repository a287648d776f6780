use super::*;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

struct Ground {
    dir: tempfile::TempDir,
    files: Files,
}

/// `in/` is a root, `out/` is not; both hold `a.csv`.
fn ground() -> Ground {
    let dir = tempfile::tempdir().unwrap();
    for name in ["in/sub", "out"] {
        std::fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    for name in ["in/a.csv", "in/sub/b.csv", "out/a.csv"] {
        std::fs::write(dir.path().join(name), "id\n1\n").unwrap();
    }
    let files = Files { roots: vec![dir.path().join("in")] };
    Ground { dir, files }
}

impl Ground {
    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn find(&self, name: &str, modern: bool) -> Result<Found, Failure> {
        find_with(self.at(name).to_str().unwrap(), &self.files, modern)
    }

    /// The class with both ways of opening, which must agree.
    fn class(&self, name: &str) -> Option<Class> {
        let [new, old] = [true, false].map(|modern| self.find(name, modern).err().map(|failure| failure.class));
        assert_eq!(new, old, "{name}");
        new
    }
}

#[test]
fn files_and_directories_below_the_root_open() {
    let ground = ground();
    for name in ["in/a.csv", "in/sub/b.csv", "in", "in/sub"] {
        assert_eq!(ground.class(name), None, "{name}");
    }
    assert!(ground.find("in", true).unwrap().held.facts.directory);
    let found = ground.find("in/a.csv", true).unwrap();
    assert_eq!((found.held.facts.size, found.relative.as_path()), (5, Path::new("a.csv")));
}

#[test]
fn outside_is_refused_and_missing_is_not_found() {
    let ground = ground();
    assert_eq!(ground.class("out/a.csv"), Some(Class::Misconfigured));
    assert_eq!(ground.class("out/none.csv"), Some(Class::Misconfigured));
    assert_eq!(ground.class("in/none.csv"), Some(Class::NotFound));
    assert_eq!(ground.class("in/a.csv/b.csv"), Some(Class::NotFound));
    let sly = ground.at("in").join("..").join("out/a.csv");
    assert_eq!(find(sly.to_str().unwrap(), &ground.files).unwrap_err().class, Class::Misconfigured);
    // A root that is the prefix of a name only.
    std::fs::create_dir(ground.at("inner")).unwrap();
    std::fs::write(ground.at("inner/a.csv"), "").unwrap();
    assert_eq!(ground.class("inner/a.csv"), Some(Class::Misconfigured));
    assert_eq!(find("x.csv", &Files { roots: Vec::new() }).unwrap_err().class, Class::Misconfigured);
}

#[test]
fn links_may_not_leave_the_root() {
    let ground = ground();
    symlink("../out/a.csv", ground.at("in/relative.csv")).unwrap();
    symlink(ground.at("out/a.csv"), ground.at("in/absolute.csv")).unwrap();
    symlink("../out", ground.at("in/parent")).unwrap();
    symlink("round.csv", ground.at("in/round.csv")).unwrap();
    symlink("parent/a.csv", ground.at("in/chain.csv")).unwrap();
    symlink("/proc/self/exe", ground.at("in/magic.csv")).unwrap();
    for name in
        ["in/relative.csv", "in/absolute.csv", "in/parent/a.csv", "in/parent", "in/round.csv", "in/chain.csv", "in/magic.csv"]
    {
        assert_eq!(ground.class(name), Some(Class::Misconfigured), "{name}");
    }
    let failure = ground.find("in/relative.csv", true).unwrap_err();
    assert!(failure.title.contains("/in, or in a circle"), "{failure:?}");
    assert!(failure.fix.contains("files.roots"), "{failure:?}");
}

#[test]
fn links_that_stay_below_the_root_are_followed() {
    let ground = ground();
    symlink("sub/b.csv", ground.at("in/relative.csv")).unwrap();
    symlink(ground.at("in/sub/b.csv"), ground.at("in/absolute.csv")).unwrap();
    symlink("sub/../a.csv", ground.at("in/back.csv")).unwrap();
    for name in ["in/relative.csv", "in/absolute.csv", "in/back.csv"] {
        assert_eq!(ground.class(name), None, "{name}");
    }
    // A root, and a path, that are reached by another name.
    symlink(ground.at("in"), ground.at("alias")).unwrap();
    assert_eq!(ground.class("alias/a.csv"), None);
    let files = Files { roots: vec![ground.at("alias")] };
    for name in ["alias/a.csv", "in/a.csv"] {
        assert!(find(ground.at(name).to_str().unwrap(), &files).is_ok(), "{name}");
    }
    // The outer root allows what the inner one refuses.
    symlink("../out/a.csv", ground.at("in/up.csv")).unwrap();
    let files = Files { roots: vec![ground.at("in"), ground.dir.path().to_owned()] };
    assert!(find(ground.at("in/up.csv").to_str().unwrap(), &files).is_ok());
}

#[test]
fn only_regular_files_are_opened() {
    let ground = ground();
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, ground.at("in/pipe.csv"), FileType::Fifo, mode, 0).unwrap();
    let _listener = UnixListener::bind(ground.at("in/socket.csv")).unwrap();
    for (name, word) in [("in/pipe.csv", "a named pipe"), ("in/socket.csv", "a socket")] {
        for modern in [true, false] {
            let failure = ground.find(name, modern).unwrap_err();
            assert_eq!(failure.class, Class::Misconfigured);
            assert!(failure.title.contains(word), "{failure:?}");
        }
    }
    let device = find("/dev/null", &Files { roots: vec!["/dev".into()] }).unwrap_err();
    assert!(device.title.contains("a device"), "{device:?}");
}

#[test]
fn a_link_swapped_between_two_opens_does_not_help() {
    let ground = ground();
    let found = ground.find("in/sub", true).unwrap();
    std::fs::remove_dir_all(ground.at("in/sub")).unwrap();
    symlink("../out", ground.at("in/sub")).unwrap();
    let failure = found.root.open_below(Path::new("sub/a.csv")).unwrap_err();
    assert_eq!(failure.class, Class::Misconfigured);
}

#[test]
fn writable_says_what_an_open_for_writing_would() {
    use std::os::unix::fs::PermissionsExt;
    let ground = ground();
    for mode in [0o644, 0o444] {
        std::fs::set_permissions(ground.at("in/a.csv"), std::fs::Permissions::from_mode(mode)).unwrap();
        let truth = std::fs::OpenOptions::new().append(true).open(ground.at("in/a.csv")).is_ok();
        let found = ground.find("in/a.csv", true).unwrap();
        assert_eq!(found.root.writable(&found.relative), Ok(truth), "{mode:o}");
    }
}

#[test]
fn absolute_is_by_letters() {
    let here = std::env::current_dir().unwrap();
    assert_eq!(absolute(Path::new("./a/./b")).unwrap(), here.join("a/b"));
    assert_eq!(absolute(Path::new("/a/b/")).unwrap(), Path::new("/a/b"));
    assert_eq!(absolute(Path::new("../x")).unwrap(), here.parent().unwrap().join("x"));
    assert!(absolute(Path::new("a/../b")).is_err());
}

/// All failures that a path can meet, as a person reads them.
#[test]
fn every_failure_has_a_remedy() {
    let ground = ground();
    let found = ground.find("in/a.csv", true).unwrap();
    let shown = found.root.shown(&found.relative);
    let mut text = String::new();
    let mut show = |failure: &Failure| {
        let words =
            format!("{}\n  {}\n  fix: {}\n  detail: {}\n", failure.class.as_str(), failure.title, failure.fix, failure.detail);
        text.push_str(&words.replace(ground.dir.path().to_str().unwrap(), "<dir>"));
    };
    for errno in [Errno::XDEV, Errno::LOOP, Errno::NOENT, Errno::ACCESS, Errno::NAMETOOLONG, Errno::NXIO, Errno::IO, Errno::STALE]
    {
        show(&found.root.failure(errno, &shown));
    }
    show(&find("data/a.csv", &Files { roots: Vec::new() }).unwrap_err());
    show(&ground.find("out/a.csv", true).unwrap_err());
    show(&ground.find("out", true).unwrap_err());
    let gone = Files { roots: vec![ground.at("gone")] };
    show(&find(ground.at("gone/a.csv").to_str().unwrap(), &gone).unwrap_err());
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("file_place_failures", text);
    });
}
