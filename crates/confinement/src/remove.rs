//! Removes a folder into which a program wrote that may be hostile.
//!
//! A program can make folders that are nested deeper than a path can say, than the stack of a recursion is high, and than files
//! can be open. So nothing here descends: a folder inside a folder of the root is renamed into the root, and only folders
//! of the root are emptied. Every name is looked up in an open folder, and a symbolic link is removed and not followed.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, chmod, fchmod, fstat, openat, renameat, unlinkat};
use rustix::io::Errno;

/// How long is waited when nothing could be removed: a process that is being ended may still write.
const PAUSE: Duration = Duration::from_millis(20);
/// How often that is done before the removal fails.
const MAX_PAUSES: u32 = 25;
/// What the folders are called that were renamed into the root.
const MOVED: &str = "moved-";

/// Removes what `path` names, with everything in it, however deep it is and whatever mode it has. Blocks for about `within`
/// at most, and opens four files at most. That `path` does not exist is not an error.
///
/// # Errors
/// `TimedOut` if there is more than could be removed in that time; a further call goes on where this one has stopped. Otherwise
/// the first error of the file system that remains.
pub fn remove_tree(path: &Path, within: Duration) -> io::Result<()> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let name = CString::new(path.file_name().ok_or_else(invalid)?.as_bytes()).map_err(|_| invalid())?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = match openat(CWD, parent, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    match unlinkat(&parent, &name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let root = match open_folder(parent.as_fd(), &name) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let mut removal = Removal { root, deadline: Instant::now() + within, moved: 0, has_progress: false, error: None };
    removal.empty_root()?;
    match unlinkat(&parent, &name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

struct Removal {
    root: OwnedFd,
    deadline: Instant,
    /// The number of the next folder that is renamed into the root.
    moved: u64,
    /// Whether the pass over the root has removed or renamed anything.
    has_progress: bool,
    /// The first error of the pass over the root.
    error: Option<Errno>,
}

impl Removal {
    fn empty_root(&mut self) -> io::Result<()> {
        let mut pauses = 0;
        loop {
            (self.has_progress, self.error) = (false, None);
            let mut is_empty = true;
            for name in names(&self.root)? {
                is_empty = false;
                let name = name?;
                if let Err(error) = self.remove(&name) {
                    self.error = self.error.or(Some(error));
                }
                self.check_time()?;
            }
            if is_empty {
                return Ok(());
            }
            if !self.has_progress {
                pauses += 1;
                if pauses > MAX_PAUSES {
                    return Err(self.error.map_or_else(|| io::ErrorKind::DirectoryNotEmpty.into(), io::Error::from));
                }
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Removes an entry of the root. What is inside a folder of it is renamed into the root and stays for another pass.
    fn remove(&mut self, name: &CStr) -> Result<(), Errno> {
        match unlinkat(&self.root, name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => {}
            other => return self.done(other),
        }
        let folder = match open_folder(self.root.as_fd(), name) {
            Err(Errno::NOENT) => return Ok(()),
            other => other?,
        };
        let mut error = None;
        for entry in names(&folder)? {
            let emptied = self.remove_or_move(&folder, &entry?);
            error = error.or(emptied.err());
            if self.check_time().is_err() {
                return Ok(());
            }
        }
        drop(folder);
        let removed = unlinkat(&self.root, name, AtFlags::REMOVEDIR);
        // A listing may leave out entries while others are removed. The next pass finds them.
        match (error, removed) {
            (Some(error), Err(_)) => Err(error),
            (_, removed) => self.done(removed),
        }
    }

    fn remove_or_move(&mut self, folder: &OwnedFd, name: &CStr) -> Result<(), Errno> {
        match unlinkat(folder, name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => {}
            other => return self.done(other),
        }
        match unlinkat(folder, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::ACCESS) => {}
            other => return self.done(other),
        }
        let mut is_writable = false;
        loop {
            let moved = format!("{MOVED}{}", self.moved);
            self.moved += 1;
            match renameat(folder, name, &self.root, moved.as_str()) {
                // A removal that was interrupted has left the name.
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                // A folder that is moved must be writable, because its entry for the folder above it changes.
                Err(Errno::ACCESS) if !is_writable => {
                    make_usable(folder.as_fd(), name)?;
                    is_writable = true;
                }
                other => return self.done(other),
            }
            if Instant::now() > self.deadline {
                return Ok(());
            }
        }
    }

    /// Notes that something is gone.
    fn done(&mut self, outcome: Result<(), Errno>) -> Result<(), Errno> {
        match outcome {
            Ok(()) => {
                self.has_progress = true;
                Ok(())
            }
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn check_time(&self) -> io::Result<()> {
        if Instant::now() > self.deadline { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

/// The names in a folder, but for the two of every folder.
fn names(folder: &OwnedFd) -> Result<impl Iterator<Item = Result<CString, Errno>> + use<>, Errno> {
    let is_entry = |name: &CStr| !matches!(OsStr::from_bytes(name.to_bytes()).as_bytes(), b"." | b"..");
    let entries = Dir::read_from(folder)?.map(|entry| entry.map(|entry| entry.file_name().to_owned()));
    Ok(entries.filter(move |name| name.as_ref().map_or(true, |name| is_entry(name))))
}

/// Opens a folder so that its entries can be listed and removed, whatever its mode was.
fn open_folder(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = match openat(parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            make_usable(parent, name)?;
            openat(parent, name, flags, Mode::empty())?
        }
        other => other?,
    };
    let is_usable = fstat(&folder).is_ok_and(|stat| Mode::from_raw_mode(stat.st_mode).contains(Mode::RWXU));
    if !is_usable {
        fchmod(&folder, Mode::RWXU)?;
    }
    Ok(folder)
}

/// Gives this user every right on a folder that it may not open.
fn make_usable(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(parent, name, flags, Mode::empty())?;
    // The name leads to the folder that is open and to nothing else.
    chmod(format!("/proc/self/fd/{}", folder.as_raw_fd()).as_str(), Mode::RWXU)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rustix::fs::mkdirat;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    /// Folders inside of each other, without a path that the kernel would refuse for its length.
    fn nest(folder: &Path, levels: u32) {
        let mut at = openat(CWD, folder, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..levels {
            mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = openat(&at, "d", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        openat(&at, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
    }

    #[test]
    fn a_tree_of_any_depth_is_removed_with_few_open_files_and_a_small_stack() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("root");
        fs::create_dir_all(root.join("work/beside")).unwrap();
        fs::write(root.join("work/beside/file"), "x").unwrap();
        fs::create_dir(root.join("moved-0")).unwrap();
        fs::write(root.join("moved-0/file"), "of a removal that was interrupted").unwrap();
        nest(&root.join("work"), 5_000);
        let path = root.clone();
        let small = std::thread::Builder::new().stack_size(128 << 10);
        small.spawn(move || remove_tree(&path, LONG)).unwrap().join().unwrap().unwrap();
        assert!(!root.exists());
        remove_tree(&root, LONG).unwrap();
    }

    #[test]
    fn a_symbolic_link_is_removed_and_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let (root, other) = (home.path().join("root"), home.path().join("other"));
        fs::create_dir_all(root.join("in")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("file"), "stays").unwrap();
        symlink(&other, root.join("link")).unwrap();
        symlink(&other, root.join("in/link")).unwrap();
        symlink(&other, home.path().join("top")).unwrap();
        for path in [&root, &home.path().join("top")] {
            remove_tree(path, LONG).unwrap();
            assert!(path.symlink_metadata().is_err(), "{}", path.display());
        }
        assert_eq!(fs::read_to_string(other.join("file")).unwrap(), "stays");
    }

    #[test]
    fn the_time_is_a_bound_and_a_further_call_goes_on() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("root");
        for number in 0..50 {
            fs::create_dir_all(root.join(format!("{number}/a/b/c"))).unwrap();
        }
        assert_eq!(remove_tree(&root, Duration::ZERO).unwrap_err().kind(), io::ErrorKind::TimedOut);
        remove_tree(&root, LONG).unwrap();
        assert!(!root.exists());
    }

    /// The test starts itself again as another user, because the modes do not stop root.
    #[test]
    fn folders_without_any_permission_are_removed() {
        const VARIABLE: &str = "CONFINEMENT_TEST_REMOVES";
        let name = "remove::tests::folders_without_any_permission_are_removed";
        if let Some(root) = std::env::var_os(VARIABLE) {
            let root = Path::new(&root);
            fs::create_dir_all(root.join("work/a/b/c")).unwrap();
            fs::create_dir_all(root.join("work/readable/a")).unwrap();
            for (folder, mode) in [("work/readable", 0o400), ("work/a/b", 0), ("work/a", 0), ("work", 0), ("", 0o100)] {
                fs::set_permissions(root.join(folder), fs::Permissions::from_mode(mode)).unwrap();
            }
            return remove_tree(root, LONG).unwrap();
        }
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("root");
        let program = home.path().join("test");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let mut command = std::process::Command::new(&program);
        if rustix::process::geteuid().is_root() {
            fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).unwrap();
            std::os::unix::process::CommandExt::uid(&mut command, 65534);
        }
        let output = command.args(["--exact", name]).env(VARIABLE, &root).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(!root.exists());
    }
}
