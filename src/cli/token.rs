//! `aam token new`: a bearer token; only its digest goes into the policy.

use super::{Common, Ended, Fail};
use crate::model::Digest;
use data_encoding::HEXLOWER;
use ring::rand::SecureRandom;
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Print a new token once, and the policy entry that admits it
    New {
        /// Its name, as origins and logs show it
        #[arg(long, default_value = "aod")]
        name: String,
    },
}

/// Exit 0; the token is printed once and kept nowhere.
pub fn run(common: &Common, command: &Command) -> Ended {
    let Command::New { name } = command;
    let mut bytes = [0_u8; 32];
    ring::rand::SystemRandom::new().fill(&mut bytes).map_err(|_| Fail::new("the system gives no random bytes"))?;
    let token = format!("aam_{}", HEXLOWER.encode(&bytes));
    let sha256 = Digest::from_bytes(token.as_bytes());
    let entry = format!("{{name: {name}, sha256: \"{sha256}\", scopes: [intents:write, registry:read], namespaces: [autonomy]}}");
    let text =
        format!("{token}\n\nGive it to the caller now: it is shown once. Add to the policy, under api.tokens:\n\n  - {entry}\n");
    common.print(&text, &serde_json::json!({ "token": token, "sha256": sha256, "name": name }));
    Ok(ExitCode::SUCCESS)
}
