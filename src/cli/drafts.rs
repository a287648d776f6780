//! Family files that are being written.

use crate::operator_file;

/// The maximum length of a family file, in bytes.
const MAX_FAMILY_BYTES: u64 = 4 << 20;

/// In a debug build, family files in the folder `AAM_DRAFT_FAMILIES` replace the built-in ones, so that a family can be
/// written without building AAM after each change.
///
/// # Errors
/// Returns a message that names the file that cannot be used.
pub fn use_drafts() -> Result<(), String> {
    let Some(folder) = std::env::var_os("AAM_DRAFT_FAMILIES").filter(|_| cfg!(debug_assertions)) else { return Ok(()) };
    let unusable = |path: &std::path::Path, error: String| format!("AAM_DRAFT_FAMILIES: {}: {error}", path.display());
    let folder = std::path::PathBuf::from(folder);
    let files = std::fs::read_dir(&folder).map_err(|error| unusable(&folder, error.to_string()))?;
    let paths = files.filter_map(Result::ok).map(|file| file.path());
    let drafts = paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).map(|path| {
        let text = operator_file::read_text(&path, MAX_FAMILY_BYTES).map_err(|error| unusable(&path, error.to_string()))?;
        let family = crate::families::parse(&text).map_err(|error| unusable(&path, error))?;
        crate::connectors::lowcode::spec::Spec::from_family(&family).map_err(|error| unusable(&path, error))?;
        Ok(family)
    });
    crate::families::replace_by_drafts(drafts.collect::<Result<_, String>>()?);
    Ok(())
}
