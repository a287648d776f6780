//! `aam consent`: lists, asks for and revokes the OAuth grants behind `consent:` locators. It works beside a running daemon,
//! which takes up a change at its next attempt.

use super::budget::InMemoryDayBudget;
use super::report::policy_in_force;
use super::{CommandError, CommandResult, CommonOptions, EXIT_NOT_YET};
use crate::clock;
use crate::egress::{Egress, resolve::SystemLookup};
use crate::model::text::counted;
use crate::model::{ConnectionId, Failure, Intent, Locator, Timestamp};
use crate::policy::LoadedPolicy;
use crate::policy_loader;
use crate::providers::consent::{ConsentContext, GrantListing, LinkListing, LinkState, RevokedAtVendor, RevokedGrant};
use crate::providers::{CredentialRequest, Process, Providers, Reading};
use crate::registry::all_partitions::AllPartitions;
use crate::registry::{self, Reader, RegistryError};
use serde_json::{Value, json};
use std::fmt::Write;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(clap::Subcommand)]
pub enum ConsentCommand {
    /// List the grants that owners gave and the links that wait for consent; shows no secret
    List,
    /// Print the link with which the owner of a connection gives consent
    Link {
        /// A connection id, or the start of one
        connection: String,
    },
    /// Encrypt the consent store with another key, while no daemon runs
    #[command(after_help = "Example, with the present key in env:CONSENT_KEY:
  openssl rand -base64 32 | aam secret set CONSENT_KEY_2
  aam stop
  aam consent rekey --to env:CONSENT_KEY_2
  (write key: \"env:CONSENT_KEY_2\" under credentials.consent_store in the policy)
  aam serve")]
    Rekey {
        /// Where the new key is stored: env:NAME, file:PATH or vault:PATH#FIELD
        #[arg(long)]
        to: String,
    },
    /// Revoke the grant of a connection at the vendor, where that is possible, and delete it here
    Revoke {
        /// A connection id, or the start of one
        connection: String,
    },
}

/// Exits with 0, or with 2 if a grant was deleted here but could not be revoked at the vendor.
pub async fn run(common: &CommonOptions, command: &ConsentCommand) -> CommandResult {
    let clock = clock::from_env();
    let egress = Egress::with(Arc::new(InMemoryDayBudget::default()), Arc::clone(&clock), Arc::new(SystemLookup));
    let providers = Providers::new(egress, clock, Process::Recording);
    providers.consents().keep_in(&common.registry);
    let result = match command {
        ConsentCommand::List => list(common, &providers).await,
        ConsentCommand::Link { connection } => link(common, &providers, connection).await,
        ConsentCommand::Rekey { to } => rekey(common, &providers, to).await,
        ConsentCommand::Revoke { connection } => revoke(common, &providers, connection).await,
    };
    providers.consents().released().await;
    result
}

fn context(providers: &Providers, loaded: LoadedPolicy) -> ConsentContext<'_> {
    ConsentContext { providers, policy: loaded.policy, sources: loaded.sources }
}

/// The policy of the file. These commands also work without a registry.
fn policy(common: &CommonOptions) -> Result<LoadedPolicy, CommandError> {
    match Reader::open(&common.registry) {
        Ok(reader) => policy_in_force(common, &reader),
        Err(_) => policy_loader::load(&common.policy).loaded.map_err(|problems| CommandError::config(&problems)),
    }
}

async fn list(common: &CommonOptions, providers: &Providers) -> CommandResult {
    let (grants, links) = providers.consents().list(&context(providers, policy(common)?)).await.map_err(error)?;
    let mut text = String::new();
    for grant in &grants {
        let _ = write!(text, "{}", grant_text(grant));
    }
    for link in &links {
        let _ = write!(text, "{}", waiting_text(link));
    }
    if text.is_empty() {
        text.push_str("no consent was given, and none is asked for\n");
    }
    let waiting: Vec<Value> = links.iter().map(link_value).collect();
    common.print(&text, &json!({"grants": grants.iter().map(grant_value).collect::<Vec<_>>(), "waiting": waiting}));
    Ok(ExitCode::SUCCESS)
}

async fn link(common: &CommonOptions, providers: &Providers, start: &str) -> CommandResult {
    let reader = Reader::open(&common.registry)?;
    let snapshot = reader.snapshot()?;
    let id = matching(start, snapshot.connections.keys(), "aam status lists the connections")?;
    if snapshot.connections.get(&id).is_some_and(|connection| connection.retired.is_some()) {
        return Err(CommandError::new(format!(
            "connection {id} is RETIRED: no intent asks for it any more; restore its intent in the intents folder, or push it again, before its owner consents"
        )));
    }
    let loaded = policy_in_force(common, &reader)?;
    let document = snapshot.connections.get(&id).map(|connection| connection.document);
    let text = document.map(|seq| reader.body(seq)).transpose()?.flatten();
    let intent: Option<Intent> = text.and_then(|text| serde_json::from_str(&text).ok());
    let Some((intent, family)) = intent.and_then(|intent| {
        let family = Arc::clone(loaded.family(&intent.source_type)?);
        Some((intent, family))
    }) else {
        return Err(CommandError::new(format!("the source type of connection {id} is not known; aam status {id} says more")));
    };
    let Some(locator) = intent.credential_locator.clone() else {
        return Err(CommandError::new(format!("connection {id} has no credential_locator, so it needs no consent")));
    };
    let request = CredentialRequest {
        locator,
        connection: id,
        namespace: intent.namespace,
        owner: intent.owner.user,
        family,
        resource_ids: intent.resource_ids.into(),
        policy: Arc::clone(&loaded.policy),
        reading: Reading::Cached,
    };
    let link = providers.consents().link_for(&context(providers, loaded), &request).await.map_err(error)?;
    let url = link.url.clone().unwrap_or_default();
    let text = format!("{url}\nsend this link to {} before it ends at {}\n", link.owner, link.ends.rfc3339());
    common.print(&text, &link_value(&link));
    Ok(ExitCode::SUCCESS)
}

async fn revoke(common: &CommonOptions, providers: &Providers, start: &str) -> CommandResult {
    let context = context(providers, policy(common)?);
    let (grants, links) = providers.consents().list(&context).await.map_err(error)?;
    let known = grants.iter().map(|grant| grant.connection).chain(links.iter().map(|link| link.connection));
    let id = matching(start, known, "aam consent list shows them")?;
    let revoked = providers.consents().revoke(&context, id).await.map_err(error)?;
    let mut text = String::new();
    for grant in &revoked {
        let _ = writeln!(text, "{}", revoked_text(id, grant));
    }
    if revoked.is_empty() {
        let _ = writeln!(text, "connection {id} had no grant; its open link was withdrawn");
    }
    let _ = writeln!(text, "the next attempt of connection {id} shows a new link");
    let values: Vec<Value> = revoked.iter().map(revoked_value).collect();
    common.print(&text, &json!({"connection": id, "revoked": values}));
    let whole = revoked.iter().all(|grant| matches!(grant.at_vendor, RevokedAtVendor::Revoked));
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NOT_YET) })
}

/// Returns the only connection of `known` whose id begins with `start`.
fn matching(start: &str, known: impl Iterator<Item = ConnectionId>, hint: &str) -> Result<ConnectionId, CommandError> {
    let mut matches: Vec<ConnectionId> = known.filter(|id| id.to_string().starts_with(start)).collect();
    matches.sort_unstable();
    matches.dedup();
    match matches.as_slice() {
        [id] => Ok(*id),
        [] => Err(CommandError::new(format!("no connection with an id that starts with {start} was found; {hint}"))),
        many => {
            Err(CommandError::new(format!("{} connections have an id that starts with {start}; give more of the id", many.len())))
        }
    }
}

async fn rekey(common: &CommonOptions, providers: &Providers, to: &str) -> CommandResult {
    let new = match Locator::parse(to) {
        Ok(locator @ (Locator::Env(_) | Locator::File(_) | Locator::Vault(_))) => locator,
        // The text is not repeated, because it may be the key itself.
        Ok(_) | Err(_) => {
            return Err(CommandError::usage("--to is not the place of a key; write env:NAME, file:PATH or vault:PATH#FIELD"));
        }
    };
    // A process that refreshes a grant meanwhile would lose its new token.
    let running = |error: RegistryError| {
        CommandError::new(format!("{error}; a daemon may refresh grants meanwhile, so end it first: aam stop"))
    };
    let _lock = match common.registry.local().exists() {
        true => Some(registry::hold(common.registry.local(), "consent rekey").map_err(running)?),
        false => None,
    };
    let _replicas = match common.registry.postgres() {
        Some(_) => Some(AllPartitions::take(&common.registry, "consent rekey").map_err(running)?),
        None => None,
    };
    let loaded = policy_loader::load(&common.policy).loaded.map_err(|problems| CommandError::config(&problems))?;
    let done = providers.consents().rekey(&context(providers, loaded), &new).await.map_err(error)?;
    let mut text = format!("{} in {} encrypted with the key at {new}\n", counted(done.grants, "grant"), done.place);
    if done.damaged > 0 {
        let _ = writeln!(
            text,
            "{} could not be decrypted before either: aam consent list, aam consent link",
            counted(done.damaged, "grant")
        );
    }
    if done.links > 0 {
        let _ = writeln!(
            text,
            "{} that were sent no longer work: aam consent link CONNECTION prints new ones",
            counted(done.links, "open link")
        );
    }
    let _ = writeln!(
        text,
        "next: in the policy, write credentials: {{consent_store: {{key: \"{new}\"}}}}; then aam serve. Keep the old key only for old backups."
    );
    let value = json!({
        "file": done.place.file(), "store": done.place.to_string(), "grants": done.grants, "damaged": done.damaged, "closed_links": done.links, "key": new.to_string(),
    });
    common.print(&text, &value);
    Ok(ExitCode::SUCCESS)
}

fn error(failure: Failure) -> CommandError {
    let detail = if failure.detail.is_empty() { String::new() } else { format!(" ({})", failure.detail) };
    CommandError::new(format!("{}{detail}; fix: {}", failure.title, failure.fix))
}

fn time(at: Option<Timestamp>, otherwise: &str) -> String {
    at.map_or_else(|| otherwise.to_string(), Timestamp::rfc3339)
}

fn grant_text(grant: &GrantListing) -> String {
    format!(
        "consent:{}  {} {}\n  connection {}, namespace {}\n  given by {} at {}, last refreshed: {}, ends: {}\n  scopes: {}\n",
        grant.consent,
        grant.family,
        grant.resource_ids.join(" "),
        grant.connection,
        grant.namespace,
        grant.owner,
        grant.since.rfc3339(),
        time(grant.refreshed, "not yet"),
        time(grant.ends, "no end known"),
        grant.scopes.join(" "),
    )
}

fn grant_value(grant: &GrantListing) -> Value {
    json!({
        "name": grant.consent, "connection": grant.connection, "namespace": grant.namespace, "family": grant.family,
        "resource_ids": grant.resource_ids, "owner": grant.owner, "scopes": grant.scopes, "since": grant.since.rfc3339(),
        "last_refreshed": grant.refreshed.map(Timestamp::rfc3339), "ends": grant.ends.map(Timestamp::rfc3339),
    })
}

fn waiting_text(link: &LinkListing) -> String {
    format!(
        "consent:{}  waits for {}\n  connection {}\n  link, usable until {}: {}\n",
        link.consent,
        link.owner,
        link.connection,
        link.ends.rfc3339(),
        link.url.as_deref().unwrap_or("none, because the policy does not describe the consent any more"),
    )
}

fn link_value(link: &LinkListing) -> Value {
    let in_progress = link.state == LinkState::InProgress;
    json!({
        "name": link.consent, "connection": link.connection, "owner": link.owner, "url": link.url,
        "ends": link.ends.rfc3339(), "in_progress": in_progress,
    })
}

fn revoked_text(id: ConnectionId, grant: &RevokedGrant) -> String {
    let deleted = format!("consent:{} of connection {id} was deleted here", grant.consent);
    match &grant.at_vendor {
        RevokedAtVendor::Revoked => format!("{deleted} and revoked at the vendor"),
        RevokedAtVendor::NoEndpoint => format!(
            "{deleted}, but not revoked at the vendor, because no revocation endpoint is known; fix: remove the access of the OAuth client in the settings of the vendor"
        ),
        RevokedAtVendor::Failed(failure) | RevokedAtVendor::Unreadable(failure) => format!(
            "{deleted}, but not revoked at the vendor: {}; fix: remove the access of the OAuth client in the settings of the vendor",
            failure.title
        ),
    }
}

fn revoked_value(grant: &RevokedGrant) -> Value {
    let (at_vendor, reason) = match &grant.at_vendor {
        RevokedAtVendor::Revoked => ("revoked", None),
        RevokedAtVendor::NoEndpoint => ("no_endpoint", None),
        RevokedAtVendor::Failed(failure) => ("failed", Some(failure.title.clone())),
        RevokedAtVendor::Unreadable(failure) => ("unreadable", Some(failure.title.clone())),
    };
    json!({"name": grant.consent, "at_vendor": at_vendor, "reason": reason})
}
