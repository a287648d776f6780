//! `aam token new`: creates a bearer token; only its digest goes into the policy.

use super::{CommandError, CommandResult, CommonOptions};
use crate::model::{ADMIN_TOKEN, Digest};
use crate::server::auth;
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum TokenCommand {
    /// Print a new token, and the policy entry for it
    New {
        /// The name of the token, which origins and logs show
        #[arg(long, default_value = "aod")]
        name: String,
    },
}

/// Exits with 0. The token is printed and not stored.
pub fn run(common: &CommonOptions, command: &TokenCommand) -> CommandResult {
    let TokenCommand::New { name } = command;
    if name == ADMIN_TOKEN {
        return Err(CommandError::new(
            "the name admin is reserved for the admin token; give this token another name with --name",
        ));
    }
    let token = auth::random_token().map_err(|error| CommandError::new(error.to_string()))?;
    let token = token.expose();
    let sha256 = Digest::from_bytes(token.as_bytes());
    let entry = format!("{{name: {name}, sha256: \"{sha256}\", scopes: [intents:write, registry:read], namespaces: [autonomy]}}");
    let text = format!(
        "{token}\n\nGive this token to the caller now; it is not shown again. Add it to the policy under api.tokens:\n\n  - {entry}\n\nIf its intents name credentials, list them in the entry: locators: [\"env:NAME\"]. Where the resource id chooses the\nhost (openapi, s3_compat, jdbc, postgres), add hosts: [api.acme.example].\n"
    );
    common.print(&text, &serde_json::json!({ "token": token, "sha256": sha256, "name": name }));
    Ok(ExitCode::SUCCESS)
}
