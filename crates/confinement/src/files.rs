//! Which files the program may open, enforced by Landlock.
//!
//! Landlock checks a path when it is opened, so the libraries and the program have to be listed like any other file. It
//! does not check who changes the mode, the owner or the times of a file: `seccomp` refuses those calls altogether. It does
//! not hide either that a path exists and how large the file is, where the user of the program may see that.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use crate::Plan;

/// The version that is needed at least: version 2 lets a program truncate files that it may not write.
const FILES: ABI = ABI::V3;

/// What every program may read and write: devices that keep nothing and that other processes do not see. `/dev/zero` is not
/// among them: a shared mapping of it is memory that nothing counts, as an anonymous one is.
const DEVICES: [(&str, bool); 3] = [("/dev/null", true), ("/dev/random", false), ("/dev/urandom", false)];

/// What Landlock of the running kernel can do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Landlock {
    pub files: bool,
    /// TCP connections can be limited to ports.
    pub ports: bool,
    /// Ioctl calls on devices can be refused.
    devices: bool,
    /// Signals to processes outside can be refused.
    pub signals: bool,
}

impl Landlock {
    /// Asks the kernel. Nothing is restricted by this.
    pub(crate) fn of_this_kernel() -> Self {
        let has = |ruleset: Result<Ruleset, RulesetError>| ruleset.and_then(Ruleset::create).is_ok();
        Self {
            files: has(required().handle_access(AccessFs::from_all(FILES))),
            ports: has(required().handle_access(AccessNet::from_all(ABI::V4))),
            devices: has(required().handle_access(AccessFs::IoctlDev)),
            signals: has(required().scope(Scope::Signal)),
        }
    }

    /// Restricts this process to the files of the plan, and its TCP connections to the port if one is given. Whatever
    /// the kernel turned out to have is required to work.
    pub(crate) fn restrict(self, plan: &Plan, port: Option<u16>) -> Result<(), String> {
        let failed = |error: RulesetError| format!("Landlock refused the plan: {error}");
        let mut ruleset = required();
        let mut handled = false;
        if self.files {
            let devices = if self.devices { AccessFs::IoctlDev.into() } else { BitFlags::EMPTY };
            ruleset = ruleset.handle_access(AccessFs::from_all(FILES) | devices).map_err(failed)?;
            handled = true;
        }
        if self.signals {
            ruleset = ruleset.scope(Scope::Signal | Scope::AbstractUnixSocket).map_err(failed)?;
            handled = true;
        }
        let port = port.filter(|_| self.ports);
        if port.is_some() {
            ruleset = ruleset.handle_access(AccessNet::from_all(ABI::V4)).map_err(failed)?;
            handled = true;
        }
        if !handled {
            return Ok(());
        }
        let mut created = ruleset.create().map_err(failed)?;
        if self.files {
            created = add_files(created, plan)?;
        }
        if let Some(port) = port {
            created = created.add_rule(NetPort::new(port, AccessNet::ConnectTcp)).map_err(failed)?;
        }
        created.restrict_self().map_err(failed)?;
        Ok(())
    }
}

/// A ruleset that fails rather than leaving out what the kernel does not know.
fn required() -> Ruleset {
    Ruleset::default().set_compatibility(CompatLevel::HardRequirement)
}

fn add_files(mut ruleset: RulesetCreated, plan: &Plan) -> Result<RulesetCreated, String> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let execute = read | AccessFs::Execute;
    // The caller reads the directory afterwards. A symbolic link could lead it elsewhere, so none can be made; devices
    // and sockets are left out for the same reason.
    let write = read
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeFifo
        | AccessFs::Refer;
    for path in &plan.readable {
        ruleset = add_path(ruleset, path, read)?;
    }
    for path in plan.executable.iter().chain([&plan.program]) {
        ruleset = add_path(ruleset, path, execute)?;
    }
    for path in plan.writable.iter().chain([&plan.directory]) {
        ruleset = add_path(ruleset, path, write)?;
    }
    for (device, writable) in DEVICES {
        // A container may lack a device, and then the program lacks it too.
        if Path::new(device).exists() {
            let access = if writable { read | AccessFs::WriteFile | AccessFs::Truncate } else { read };
            ruleset = add_path(ruleset, Path::new(device), access)?;
        }
    }
    Ok(ruleset)
}

fn add_path(ruleset: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, String> {
    let failed = |error: &dyn std::error::Error| format!("{} cannot be listed for the program: {error}", path.display());
    let is_directory = path.metadata().map_err(|error| failed(&error))?.is_dir();
    // The kernel refuses rights of directories for a file.
    let access = if is_directory { access } else { access & AccessFs::from_file(FILES) };
    let opened = PathFd::new(path).map_err(|error| failed(&error))?;
    ruleset.add_rule(PathBeneath::new(opened, access)).map_err(|error| failed(&error))
}
