//! A vendor's file as data.

mod account;
mod answer;
mod credential;
mod dataset;
mod route;
mod signature;
mod token;

pub use account::{Account, Accounts};
pub use answer::{Answer, Mood};
pub use credential::{Carrier, Client, Credential, OAuth1Scheme, Scheme, SchemeForm};
pub use dataset::Dataset;
pub use route::{Authentication, Keep, List, ListSource, Paging, Route};
pub use signature::{SignatureRule, SignedService};
pub use token::{Assertion, ClientAuthentication, Dpop, Expected, Issue, JWT_BEARER, Refresh, TokenEndpoint};

use crate::pattern::Pattern;
use crate::template::Template;
use crate::yaml::{Node, Problem, Problems, read};
use std::collections::BTreeMap;
use std::path::Path;

/// The names of answers that the sandbox gives itself.
pub const OWN_ANSWERS: [&str; 12] = [
    "unauthorized",
    "expired",
    "revoked",
    "wrong_kind",
    "other_account",
    "forbidden",
    "not_found",
    "throttled",
    "error",
    "no_account",
    "bad_cursor",
    "method_not_allowed",
];

/// One vendor.
pub struct Vendor {
    pub family: String,
    pub title: String,
    pub hosts: Vec<Pattern>,
    pub accounts: Accounts,
    pub datasets: BTreeMap<String, Dataset>,
    pub credentials: Vec<Credential>,
    pub schemes: Vec<Scheme>,
    pub clients: Vec<Client>,
    pub tokens: Vec<TokenEndpoint>,
    pub answers: BTreeMap<String, Answer>,
    pub headers: Vec<(String, Template)>,
    pub routes: Vec<Route>,
    pub moods: BTreeMap<String, Mood>,
    pub limit_for: u64,
}

/// Loads every `*.yaml` of a folder, and the vendors whose families `only` names if it names any.
///
/// # Errors
/// Fails with all problems of all files, or because the folder cannot be read or has no vendor.
pub fn load_folder(folder: &Path, only: &[String]) -> Result<Vec<Vendor>, Vec<Problem>> {
    let whole = |message: String| vec![Problem { file: folder.display().to_string(), place: None, message }];
    let entries = std::fs::read_dir(folder).map_err(|error| whole(format!("cannot be read: {error}")))?;
    let mut files: Vec<_> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    if !only.is_empty() {
        files.retain(|path| path.file_stem().is_some_and(|stem| only.iter().any(|name| stem == name.as_str())));
    }
    files.sort();
    let mut vendors = Vec::new();
    let mut problems = Vec::new();
    for path in files {
        let file = path.display().to_string();
        match std::fs::read_to_string(&path) {
            Ok(text) => match parse(&file, &text) {
                Ok(vendor) => vendors.push(vendor),
                Err(found) => problems.extend(found),
            },
            Err(error) => problems.push(Problem { file, place: None, message: format!("cannot be read: {error}") }),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    if vendors.is_empty() {
        return Err(whole("has no vendor's file (*.yaml)".to_owned()));
    }
    Ok(vendors)
}

/// Parses the text of one vendor's file.
///
/// # Errors
/// Fails with all problems of the file.
pub fn parse(file: &str, text: &str) -> Result<Vendor, Vec<Problem>> {
    let (value, mut problems) = read(file, text);
    let vendor = value.as_ref().and_then(|value| vendor(&Node::root(value), &mut problems));
    match vendor {
        Some(vendor) if problems.list.is_empty() => Ok(vendor),
        _ => {
            let mut list = problems.list;
            list.sort_by_key(|problem| problem.place);
            Err(list)
        }
    }
}

fn vendor(root: &Node<'_>, problems: &mut Problems) -> Option<Vendor> {
    let mut fields = root.fields(problems)?;
    let family = fields.required("family", problems).and_then(|node| node.text(problems)).unwrap_or_default();
    let title = fields.text("title", problems).unwrap_or_else(|| family.clone());
    for key in ["sources", "checked_by"] {
        if fields.required(key, problems).is_some_and(|node| node.texts(problems).is_empty()) {
            problems.add(&format!("/{key}"), format!("{key} names nothing"));
        }
    }
    // What the conformance suite reads. It checks it itself.
    if let Some(node) = fields.get("conformance") {
        node.entries(problems);
    }
    let mut hosts = Vec::new();
    for node in fields.required("hosts", problems).map(|node| node.one_or_more(problems)).unwrap_or_default() {
        let Some(text) = node.text(problems) else { continue };
        match Pattern::host(&text) {
            Ok(pattern) => hosts.push(pattern),
            Err(error) => problems.add(&node.pointer, error),
        }
    }
    // A host that is written whole comes before one that names an account.
    hosts.sort_by_key(Pattern::parts);
    let accounts = Accounts::parse(fields.required("accounts", problems), problems);
    let datasets = named(fields.get("datasets"), problems, Dataset::parse);
    let schemes = credential::schemes(fields.get("schemes"), problems);
    let credentials = credential::credentials(fields.get("credentials"), problems);
    let clients = credential::clients(fields.get("clients"), problems);
    let tokens = list(fields.get("tokens"), problems, TokenEndpoint::parse);
    let answers = named(fields.get("answers"), problems, Answer::parse);
    let headers = answer::headers(fields.get("headers"), problems);
    let routes = list(fields.get("routes"), problems, Route::parse);
    let moods = named(fields.get("moods"), problems, Mood::parse);
    let limit_for = fields.number("limit_for", problems).unwrap_or(2);
    let routes_at = fields.pointer.clone();
    fields.finish(problems);
    if routes.is_empty() {
        problems.add(&routes_at, "the vendor has no routes");
    }
    let mut vendor = Vendor {
        family,
        title,
        hosts,
        accounts,
        datasets,
        credentials,
        schemes,
        clients,
        tokens,
        answers,
        headers,
        routes,
        moods,
        limit_for,
    };
    vendor.accounts.moods = vendor.mood_names();
    vendor.check_references(problems);
    Some(vendor)
}

fn list<T>(node: Option<Node<'_>>, problems: &mut Problems, parse: impl Fn(&Node<'_>, &mut Problems) -> Option<T>) -> Vec<T> {
    let nodes = node.map(|node| node.list(problems)).unwrap_or_default();
    nodes.iter().filter_map(|node| parse(node, problems)).collect()
}

fn named<T>(
    node: Option<Node<'_>>,
    problems: &mut Problems,
    parse: impl Fn(&Node<'_>, &mut Problems) -> Option<T>,
) -> BTreeMap<String, T> {
    let entries = node.map(|node| node.entries(problems)).unwrap_or_default();
    entries.into_iter().filter_map(|(name, node)| Some((name.to_owned(), parse(&node, problems)?))).collect()
}

impl Vendor {
    fn mood_names(&self) -> Vec<String> {
        let own = self.moods.keys().cloned();
        let forms = self.answers.keys().filter_map(|name| name.strip_prefix("throttled_"));
        own.chain(forms.map(|form| format!("limited_{form}")))
            .chain(crate::moods::COMMON.iter().map(|name| (*name).to_owned()))
            .collect()
    }

    /// What one part of the file says about another.
    fn check_references(&self, problems: &mut Problems) {
        let has_answer = |name: &str| self.answers.contains_key(name) || OWN_ANSWERS.contains(&name);
        let has_kind = |kind: &str| self.schemes.iter().any(|scheme| scheme.kind == kind);
        for (at, credential) in self.credentials.iter().enumerate() {
            if !has_kind(&credential.kind) {
                problems.add(&format!("/credentials/{at}/kind"), format!("schemes has no kind {}", credential.kind));
            }
            self.check_accounts(&credential.accounts, &format!("/credentials/{at}/account"), problems);
            let is_signing = self.schemes.iter().any(|scheme| scheme.kind == credential.kind && scheme.oauth1.is_some());
            let lacking = |key: &&str| is_signing && credential.data.get(*key).is_none_or(|value| !value.is_string());
            for key in crate::oauth1::CREDENTIAL_KEYS.iter().filter(|key| lacking(key)) {
                problems.add(&format!("/credentials/{at}"), format!("a credential that signs requests needs {key}"));
            }
        }
        for (at, client) in self.clients.iter().enumerate() {
            self.check_accounts(&client.credential.accounts, &format!("/clients/{at}/account"), problems);
        }
        for endpoint in &self.tokens {
            let pointer = &endpoint.pointer;
            if !has_kind(&endpoint.issue.kind) {
                let kind = &endpoint.issue.kind;
                problems.add(&format!("{pointer}/issue/kind"), format!("schemes has no kind {kind}"));
            }
            if let Some(kind) = endpoint.authenticated_by.as_deref().filter(|kind| !has_kind(kind)) {
                problems.add(&format!("{pointer}/authenticated_by"), format!("schemes has no kind {kind}"));
            }
        }
        for route in &self.routes {
            let pointer = &route.pointer;
            for kind in route.kinds.iter().filter(|kind| !has_kind(kind)) {
                problems.add(&format!("{pointer}/kinds"), format!("schemes has no kind {kind}"));
            }
            if let Some(name) = route.named.as_deref().filter(|name| !has_answer(name)) {
                problems.add(&format!("{pointer}/named"), format!("answers has no {name}"));
            }
            if let Some(List { source: ListSource::Dataset(name), .. }) = &route.list
                && !self.datasets.contains_key(name)
            {
                problems.add(&format!("{pointer}/list/of"), format!("datasets has no {name}"));
            }
        }
        for (name, mood) in &self.moods {
            if let Some(answer) = mood.answer.as_deref().filter(|name| !has_answer(name)) {
                problems.add(&format!("/moods/{name}/answer"), format!("answers has no {answer}"));
            }
        }
    }

    fn check_accounts(&self, accounts: &[String], pointer: &str, problems: &mut Problems) {
        for account in accounts.iter().filter(|account| self.accounts.find(account).is_none()) {
            problems.add(pointer, format!("accounts has no {account}"));
        }
    }
}
