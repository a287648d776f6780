//! Families: which sources AAM can connect, and what an intent of each needs.

use super::super::families::{all, named};
use super::super::problem::ApiProblem;
use super::super::request::{ApiRequest, ApiResult};
use super::policy::of_page;
use super::{Page, View, respond};
use crate::families::Family;
use crate::family_guide::{self, FamilyGuide, FormGuide, LoginGuide};
use crate::model::State;
use crate::page::Place;
use crate::page::families::{
    Budget, FamilyList, FamilyPage, FamilyRow, GuideExample, GuideForm, GuideKind, GuideLogin, render, render_one,
};
use crate::policy::Policy;
use crate::registry::{AccountUsage, FamilyUsage};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The number of accounts whose budgets a page shows.
const MAX_ACCOUNTS: usize = 50;
/// The number of families whose budgets are read. Custom sources count too.
const MAX_FAMILIES: usize = 500;
/// The number of unknown source types that the list shows.
const MAX_UNKNOWN: usize = 50;

/// The number of connections in each state, by source type.
type States = BTreeMap<Arc<str>, BTreeMap<State, usize>>;

/// `GET /ui/families`
///
/// # Errors
/// 400, 403, 503.
pub async fn list(request: ApiRequest) -> ApiResult {
    respond(request, |view| {
        let main = render(&collect(view)?);
        Ok(Page { title: "Families".to_string(), place: Place::Families, main })
    })
    .await
}

/// `GET /ui/families/{name}`
///
/// # Errors
/// 400, 403, 404, 503.
pub async fn one(request: ApiRequest) -> ApiResult {
    let name = request.path_param("{name}").to_string();
    respond(request, move |view| {
        let family = named(&view.app.handle.policy.load().sources, &name)?;
        let main = render_one(&explain(view, &family)?);
        Ok(Page { title: family.title.clone(), place: Place::Families, main })
    })
    .await
}

fn collect(view: &View) -> Result<FamilyList, ApiProblem> {
    let policy = of_page(view)?.policy;
    let known = all(&view.app.handle.policy.load().sources);
    let states = states(view);
    let usage = match no_budgets(view).is_empty() {
        true => view.app.handle.registry.reader().budget_by_family(view.now.day(), MAX_FAMILIES)?,
        false => Vec::new(),
    };
    let families: Vec<FamilyRow> = known.iter().map(|family| row(family, policy.as_deref(), &states, &usage)).collect();
    let mut unknown: Vec<(String, Vec<(State, usize)>)> = states
        .iter()
        .filter(|(name, _)| !known.iter().any(|family| *family.id == ***name))
        .map(|(name, counts)| (name.to_string(), counts.iter().map(|(state, count)| (*state, *count)).collect()))
        .collect();
    unknown.sort_by_key(|(_, counts)| Reverse(counts.iter().map(|(_, count)| *count).sum::<usize>()));
    let more_unknown = unknown.len().saturating_sub(MAX_UNKNOWN);
    unknown.truncate(MAX_UNKNOWN);
    let others = usage.iter().filter(|usage| !families.iter().any(|row| row.id == usage.family));
    Ok(FamilyList {
        links: view.links.clone(),
        unknown,
        more_unknown,
        others: others.map(|usage| other_budget(usage, policy.as_deref())).collect(),
        families,
        no_budgets: no_budgets(view),
        as_of: view.as_of(),
    })
}

/// Why the page shows no budgets; empty if it does. The working state of the registry has those of today only.
fn no_budgets(view: &View) -> String {
    if view.is_past() {
        return "The ledger does not record the budgets of earlier days, so they are left out.".to_string();
    }
    match view.sees_registry() {
        true => String::new(),
        false => "Budgets concern all namespaces, so a token that may not read the namespace of the policy does not see them."
            .to_string(),
    }
}

fn states(view: &View) -> States {
    view.snapshot(|snapshot| {
        let mut states = States::new();
        for (_, known) in snapshot.of_namespace(&view.namespace) {
            *states.entry(Arc::clone(&known.source_type)).or_default().entry(known.state()).or_default() += 1;
        }
        states
    })
}

fn row(family: &Family, policy: Option<&Policy>, states: &States, usage: &[FamilyUsage]) -> FamilyRow {
    let counts = states.get(&family.id).into_iter().flatten();
    let used = usage.iter().find(|usage| usage.family == *family.id);
    let per_day = policy.map(|policy| policy.cap(&family.id, Some(&family.cap)).per_day);
    FamilyRow {
        id: family.id.to_string(),
        title: family.title.clone(),
        connects: !family.engine.is_empty(),
        engine: family.engine.clone(),
        is_allowed: policy.map(|policy| policy.allowlist.contains(&*family.id)),
        aliases: crate::families::aliases::of_family(&family.id).to_vec(),
        states: counts.map(|(state, count)| (*state, *count)).collect(),
        budget: used.map(|used| Budget { accounts: used.accounts, most: used.most, per_day }),
    }
}

/// The budget of hosts that are not sources, for example of the vault.
fn other_budget(usage: &FamilyUsage, policy: Option<&Policy>) -> (String, Budget) {
    let caps = policy.map(|policy| &policy.credentials.caps);
    let (name, per_day) = match usage.family.as_str() {
        "vault" => ("Vault".to_string(), caps.map(|caps| caps.vault.per_day)),
        "token" => ("Token endpoints".to_string(), caps.map(|caps| caps.tokens.per_day)),
        "webhook" => ("Webhooks".to_string(), None),
        other => (other.to_string(), None),
    };
    (name, Budget { accounts: usage.accounts, most: usage.most, per_day })
}

fn explain(view: &View, family: &Family) -> Result<FamilyPage, ApiProblem> {
    let policy = of_page(view)?.policy;
    let guide = FamilyGuide::new(family, &view.app.env.providers);
    let no_budgets = no_budgets(view);
    let mut accounts = match no_budgets.is_empty() {
        true => view.app.handle.registry.reader().budget_of_family(view.now.day(), &family.id, MAX_ACCOUNTS + 1)?,
        false => Vec::new(),
    };
    let more_accounts = accounts.len() > MAX_ACCOUNTS;
    accounts.truncate(MAX_ACCOUNTS);
    let no_names = no_names(view, family);
    let cap = policy.as_deref().map_or(&family.cap, |policy| policy.cap(&family.id, Some(&family.cap))).clone();
    let sources = &guide.sources;
    let facts = [
        ("cap", Some(&sources.cap)),
        ("least privilege", Some(&sources.privilege)),
        ("login", Some(&sources.login)),
        ("OAuth", sources.oauth.as_ref()),
    ];
    Ok(FamilyPage {
        links: view.links.clone(),
        as_of: view.as_of(),
        family: row(family, policy.as_deref(), &states(view), &[]),
        accounts: named_accounts(accounts, no_names.is_empty()),
        more_accounts,
        no_names,
        no_budgets,
        cap,
        resource_ids: guide.summary.resource_ids.clone(),
        examples: guide.summary.examples.clone(),
        least_privilege: guide.summary.least_privilege.clone(),
        how_to_grant: guide.how_to_grant.clone(),
        risk: guide.risk.clone(),
        timeouts: guide.timeouts.clone(),
        calls: guide.summary.calls.map(|calls| (calls.onboarding, calls.health)),
        kinds: guide
            .kinds
            .iter()
            .map(|kind| GuideKind {
                name: kind.name.clone(),
                base_url: kind.base_url.clone(),
                is_listed: kind.listed,
                streams: kind.streams.clone(),
            })
            .collect(),
        logins: guide.summary.login.iter().map(login).collect(),
        forms: guide.locators.iter().map(form).collect(),
        proof: guide.proof.clone(),
        sources: facts.into_iter().filter_map(|(what, source)| Some((what.to_string(), source?.clone()))).collect(),
        intent: intent(view, &guide, policy.as_deref()),
        text: family_guide::text(family, &guide),
    })
}

/// Why the names of the accounts are left out; empty if they are not. An account is that of a host or a tenant, which may belong
/// to a connection of another namespace.
fn no_names(view: &View, family: &Family) -> String {
    let caller = view.caller();
    let is_readable = view.snapshot(|snapshot| {
        let mut own = snapshot.connections.values().filter(|known| *known.source_type == *family.id);
        own.all(|known| caller.may_read(&known.namespace))
    });
    match is_readable {
        true => String::new(),
        false => format!(
            "Accounts have numbers here, because {} may not read all namespaces with connections of this family.",
            caller.display_name()
        ),
    }
}

/// The accounts with the calls that are used, the most used first.
fn named_accounts(accounts: Vec<AccountUsage>, with_names: bool) -> Vec<(String, u64)> {
    let numbered = accounts.into_iter().zip(1_usize..);
    numbered
        .map(|(account, number)| match with_names {
            true => (account.account, account.used),
            false => (format!("account {number}"), account.used),
        })
        .collect()
}

fn login(login: &LoginGuide) -> GuideLogin {
    GuideLogin {
        name: login.name.clone(),
        about: login.about.clone(),
        fields: login.fields.iter().map(|field| (field.name.clone(), field.about.clone(), field.optional)).collect(),
        json: login.json.clone(),
        text: login.text.clone(),
    }
}

fn form(form: &FormGuide) -> GuideForm {
    let example = |example: &family_guide::FormExample| GuideExample {
        login: match example.about.is_empty() {
            true => example.login.clone(),
            false => format!("{}, {}", example.login, example.about),
        },
        locator: example.locator.clone(),
        commands: example.commands.clone(),
        policy: example.policy.clone(),
        calls: example.calls.clone(),
    };
    GuideForm {
        form: form.form.to_string(),
        about: form.about.to_string(),
        examples: form.examples.iter().map(example).collect(),
    }
}

/// An intent of the family that the policy accepts once its owner and its resource are filled in.
fn intent(view: &View, guide: &FamilyGuide, policy: Option<&Policy>) -> String {
    let status = policy.and_then(|policy| policy.eligibility.evidence.first()).map_or("Sanctioned", String::as_str);
    let resource = guide.summary.examples.first().map_or("RESOURCE_ID", String::as_str);
    let locator = guide.locators.first().and_then(|form| form.examples.first()).map(|example| example.locator.as_str());
    let mut intent = serde_json::json!({
        "source_type": guide.summary.id,
        "resource_ids": [resource],
        "risk_level": "low",
        "evidence": {"status": status, "source": "IdP", "ts": view.as_of().rfc3339()},
        "owner": {"user": "owner@example.com", "confidence": 1.0, "why": "admin"},
    });
    if let (Some(locator), Some(fields)) = (locator, intent.as_object_mut()) {
        fields.insert("credential_locator".to_string(), locator.into());
    }
    serde_json::to_string_pretty(&intent).unwrap_or_default()
}
