//! Finds the token of the operator, which the daemon writes at its first start.

use aam::credentials::Secret;

/// The token of the operator in the folder `var`, beside the registry or, if that is a database, beside the other files of the
/// process. Their names begin with `prefix`. If there are several, because a process had another database before, the newest is meant.
pub fn token_below(var: &std::path::Path, prefix: &str) -> Secret {
    let files = std::fs::read_dir(var).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(prefix) && name.ends_with(".admin-token")
    });
    let file = files.max_by_key(|path| path.metadata().and_then(|metadata| metadata.modified()).ok());
    let token = file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    Secret::new(token.trim().to_string())
}
