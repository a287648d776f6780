//! Who may send which credential where. Decision record 31 gives the reasons.
//!
//! The origin of the document decides: documents of the intents folder and of the admin token may name every locator, a
//! token of the policy may name those that its entry grants. [`judge`] is the only place where this is decided.

pub mod patterns;
mod process;
pub mod summary;

use super::credentials::{file_path, vault_path};
use super::{Credentials, HandoffVendor, Policy, Token};
use crate::model::locator_forms;
use crate::model::{ADMIN_TOKEN, Class, Digest, Failure, Locator, Origin, Recipient};
pub use patterns::{HostPattern, LocatorPattern};
pub use process::is_process_variable;
use serde::Serialize;
use std::collections::BTreeMap;

/// What the documents of one token may do with credentials.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CredentialGrant {
    pub locators: Vec<LocatorPattern>,
    /// Where the credentials may be sent if the resource id chooses the host.
    pub hosts: Vec<HostPattern>,
}

/// What a document wants to do with a credential.
pub struct CredentialUse<'a> {
    /// The origins that desire the document, the newest first.
    pub origins: &'a [Origin],
    pub namespace: &'a str,
    pub source_type: &'a str,
    pub locator: &'a Locator,
    /// The hosts that the resource ids chose.
    pub recipients: &'a [Recipient],
}

/// Decides whether the credential may be resolved and sent.
///
/// # Errors
/// Returns `CredentialMissing`, whose fix is the line to add to the policy.
pub fn judge(policy: &Policy, wanted: &CredentialUse<'_>) -> Result<(), Failure> {
    let locator = wanted.locator;
    if !locator.is_known() {
        return Err(locator_forms::unknown_form(locator));
    }
    if is_process_variable(locator) {
        let example = example_variable(wanted.source_type);
        return refuse(
            format!("{locator} is a variable of the process itself and is never used as a credential"),
            format!(
                "store the credential in a variable of its own, for example {example}, and set credential_locator to env:{example}"
            ),
        );
    }
    if locator.to_string().contains('*') {
        return refuse(
            format!("{locator} is not the location of one credential"),
            "write the whole locator in credential_locator, without *".to_string(),
        );
    }
    let locator = &canonical(&policy.credentials, locator)?;
    if let Some(purpose) = policy.reserved_for(locator) {
        return refuse(
            format!("{locator} is a secret of AAM itself ({purpose}) and is never sent to a source"),
            "name the place of the source's own credential in credential_locator: for a service principal sp:NAME, for a consent consent:NAME".to_string(),
        );
    }
    in_namespace(&policy.credentials, wanted, locator)?;
    let mut first = None;
    for origin in wanted.origins {
        match by_origin(policy, origin, wanted, locator) {
            Ok(()) => return Ok(()),
            Err(failure) => first = first.or(Some(failure)),
        }
    }
    match first {
        Some(failure) => Err(failure),
        None => refuse(
            format!("no intent asks for {locator} any more"),
            "push the intent again, or put it into the intents folder".to_string(),
        ),
    }
}

/// Returns the one spelling of `locator` under which rights are decided, so that another spelling of the same secret does
/// not get around them.
///
/// # Errors
/// Returns `CredentialMissing` if the locator does not name one secret under this policy.
pub fn canonical(credentials: &Credentials, locator: &Locator) -> Result<Locator, Failure> {
    match locator {
        Locator::File(path) => {
            let file = file_path::find(path, &credentials.files)?;
            let spelled = file_path::normal(path).unwrap_or_else(|_| file.relative.to_string_lossy().into_owned());
            Ok(Locator::File(spelled))
        }
        Locator::Vault(_) => {
            let base = vault_base(credentials);
            vault_path::canonical(locator, base)
                .map_err(|invalid| Failure::new(Class::CredentialMissing, format!("{locator} {}", invalid.reason), invalid.fix))
        }
        other => Ok(other.clone()),
    }
}

/// The folder of the vault in which bare names are.
fn vault_base(credentials: &Credentials) -> Option<&str> {
    credentials.vault.as_ref().and_then(|vault| vault.path.as_deref())
}

/// A variable that the credential of a `source_type` could be stored in.
#[must_use]
pub fn example_variable(source_type: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let name = format!("{}_TOKEN", source_type.chars().map(letter).collect::<String>());
    let usable = Locator::parse(&format!("env:{name}")).is_ok_and(|locator| !is_process_variable(&locator));
    if usable { name } else { format!("SOURCE_{name}") }
}

fn refuse(title: String, fix: String) -> Result<(), Failure> {
    Err(Failure::new(Class::CredentialMissing, title, fix))
}

fn in_namespace(credentials: &Credentials, wanted: &CredentialUse<'_>, locator: &Locator) -> Result<(), Failure> {
    let namespace = wanted.namespace;
    let base = vault_base(credentials);
    let lists = |patterns: &Vec<LocatorPattern>| patterns.iter().any(|pattern| pattern.spelled(base).matches(locator));
    let concerns = |patterns: &Vec<LocatorPattern>| patterns.iter().any(|pattern| pattern.spelled(base).concerns(locator));
    let own = credentials.namespaces.get(namespace);
    let bound = own.is_some() || credentials.namespaces.values().any(concerns);
    if !bound || own.is_some_and(lists) {
        return Ok(());
    }
    // The lists of other namespaces are not shown, because who reads this namespace may not read those.
    let mut list: Vec<String> = own.into_iter().flatten().map(|pattern| quoted(pattern.as_str())).collect();
    list.push(quoted(&locator.to_string()));
    refuse(
        format!("the policy does not let the namespace {namespace} use {locator}"),
        format!("in the policy, under credentials.namespaces, write: {}: [{}]", quoted(namespace), list.join(", ")),
    )
}

/// Whether documents of this origin may name every locator, because they are reviewed or come from the operator.
fn is_trusted(origin: &Origin) -> bool {
    !origin.is_handoff() && origin.token().is_none_or(|name| name == ADMIN_TOKEN)
}

fn by_origin(policy: &Policy, origin: &Origin, wanted: &CredentialUse<'_>, locator: &Locator) -> Result<(), Failure> {
    if origin.is_handoff() {
        return handed_over(policy, wanted, locator);
    }
    if is_trusted(origin) {
        return Ok(());
    }
    let name = origin.token().unwrap_or_default();
    let Some(token) = token(policy, name) else {
        return refuse(
            format!("the token {name}, which pushed this intent, is not in the policy, so it may not use {locator}"),
            format!(
                "add the token to api.tokens in the policy with locators: [{}] (`aam token new --name {name}` prints an entry), or put the intent into the intents folder",
                quoted(&locator.to_string())
            ),
        );
    };
    let base = vault_base(&policy.credentials);
    let named = token.grant.locators.iter().any(|pattern| pattern.spelled(base).matches(locator));
    let closed = |recipient: &&Recipient| !token.grant.hosts.iter().any(|host| host.matches(recipient));
    let hosts: Vec<&Recipient> = wanted.recipients.iter().filter(closed).collect();
    if named && hosts.is_empty() { Ok(()) } else { Err(not_granted(token, locator, named, &hosts)) }
}

/// Decides for an intent that the policy itself completed: it may use the locator as long as the policy supplies it.
fn handed_over(policy: &Policy, wanted: &CredentialUse<'_>, locator: &Locator) -> Result<(), Failure> {
    let supplies = |vendor: &HandoffVendor| {
        let supplied = vendor.credential_locator.as_ref();
        let same = supplied.and_then(|supplied| canonical(&policy.credentials, supplied).ok());
        vendor.source_type == wanted.source_type && same.as_ref() == Some(locator)
    };
    if policy.handoff.vendors.values().any(supplies) {
        return Ok(());
    }
    refuse(
        format!("the policy does not supply {locator} for {} under handoff.vendors any more", wanted.source_type),
        "hand the candidate over again in a new discovery run, or restore the entry under handoff.vendors in the policy"
            .to_string(),
    )
}

/// The failure for a token whose entry lacks the locator or a host. Its fix shows what is to be added and not what the
/// entry holds already, because that may concern namespaces that the reader may not read.
fn not_granted(token: &Token, locator: &Locator, named: bool, hosts: &[&Recipient]) -> Failure {
    let (name, grant) = (&token.name, &token.grant);
    let mut targets: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    targets.sort();
    targets.dedup();
    let title = match targets.is_empty() {
        true => format!("the policy does not let the token {name} use {locator}"),
        false => format!("the policy does not let the token {name} send {locator} to {}", targets.join(", ")),
    };
    let (mut pairs, mut items) = (Vec::new(), Vec::new());
    let mut add = |key: &str, empty: bool, values: Vec<String>| {
        let list = values.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(", ");
        if empty { pairs.push(format!("{key}: [{list}]")) } else { items.push(format!("{list} to its {key}")) }
    };
    if !named {
        add("locators", grant.locators.is_empty(), vec![locator.to_string()]);
    }
    if !targets.is_empty() {
        add("hosts", grant.hosts.is_empty(), targets);
    }
    let mut parts = Vec::new();
    if !pairs.is_empty() {
        parts.push(format!("add to the entry of the token {name}: {}", pairs.join(", ")));
    }
    if !items.is_empty() {
        parts.push(format!("in the entry of the token {name}, add {}", items.join(" and ")));
    }
    Failure::new(Class::CredentialMissing, title, format!("in the policy under api.tokens, {}", parts.join("; ")))
}

fn token<'a>(policy: &'a Policy, name: &str) -> Option<&'a Token> {
    policy.api.tokens.iter().find(|token| token.name == name)
}

/// `text` as a YAML scalar in double quotes.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// The digests of everything in one policy that [`judge`] decides by. A changed digest makes the next plan check the
/// connection again.
pub struct Rights {
    /// For documents that may name every locator; `None` if nothing limits them.
    trusted: Option<Digest>,
    tokens: BTreeMap<String, Digest>,
    /// For documents of a token that is not in the policy.
    missing: Digest,
    /// For documents that the policy itself completed.
    handoff: Digest,
}

impl Rights {
    /// Computes the digests of `policy`.
    #[must_use]
    pub fn new(policy: &Policy) -> Rights {
        let namespaces = &policy.credentials.namespaces;
        let digest = |grant: serde_json::Value| {
            Digest::from_bytes(serde_json::json!({ "grant": grant, "namespaces": namespaces }).to_string().as_bytes())
        };
        let of_token = |token: &Token| (token.name.clone(), digest(serde_json::json!(token.grant)));
        Rights {
            trusted: (!namespaces.is_empty()).then(|| digest("trusted".into())),
            tokens: policy.api.tokens.iter().map(of_token).collect(),
            missing: digest(serde_json::Value::Null),
            handoff: digest(serde_json::json!(policy.handoff.vendors)),
        }
    }

    /// Adds the rights of the origins that desire a document to the digest of its family's part of the policy.
    #[must_use]
    pub fn add_to<'a>(&self, slice: Digest, origins: impl Iterator<Item = &'a Origin> + Clone) -> Digest {
        if origins.clone().any(is_trusted) {
            return self.trusted.map_or(slice, |rights| Digest::from_parts(&[&slice.0, &rights.0]));
        }
        origins.fold(slice, |digest, origin| {
            let rights = match origin.is_handoff() {
                true => &self.handoff,
                false => origin.token().and_then(|name| self.tokens.get(name)).unwrap_or(&self.missing),
            };
            Digest::from_parts(&[&digest.0, &rights.0])
        })
    }
}

#[cfg(test)]
mod tests;
