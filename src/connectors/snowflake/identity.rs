//! Proves that the account that answers is the one that the resource id names.

use super::api::SqlApi;
use super::resource::{AccountName, AccountResource};
use super::result_set::{ResultSet, Row};
use super::statements::{CONTEXT, IDENTITY, Selection};
use crate::credentials::redact;
use crate::model::{Class, Evidence, Failure};
use std::collections::BTreeMap;

/// The values of context functions, by the name of the function.
pub type SessionValues = BTreeMap<&'static str, String>;

/// Asks who is logged in where, and compares the account.
///
/// # Errors
/// Returns the failure of the call, or `WrongService` with both accounts.
pub async fn prove(api: &SqlApi, resource: &AccountResource) -> Result<(SessionValues, Evidence), Failure> {
    let values = read(api).await?;
    let matched = same_account(&values, resource)?;
    {
        let mut context = api.context();
        context.proven = true;
        let value = |name: &str| values.get(name).cloned();
        context.user = value("CURRENT_USER").unwrap_or_else(|| std::mem::take(&mut context.user));
        context.role = value("CURRENT_ROLE").unwrap_or_default();
        context.warehouse = value("CURRENT_WAREHOUSE").unwrap_or_default();
    }
    let mut evidence = Evidence::new();
    evidence.insert("matched".into(), matched.into());
    for (name, value) in &values {
        let key = name.trim_start_matches("CURRENT_").to_lowercase();
        evidence.insert(key, redact::scrub_and_cut(value, 200).into());
    }
    Ok((values, evidence))
}

/// Reads the context functions. A server that does not know one of them is asked for those that prove the identity.
async fn read(api: &SqlApi) -> Result<SessionValues, Failure> {
    let (selection, result) = match api.run(&CONTEXT.sql()).await {
        // 422 is the answer to a statement that does not compile, whatever code a server gives to an unknown function.
        Err(_) if api.statement_was_refused() => (IDENTITY, api.run(&IDENTITY.sql()).await?),
        read => (CONTEXT, read?),
    };
    Ok(values(selection, &result))
}

fn values(selection: Selection, result: &ResultSet) -> SessionValues {
    let Some(row) = result.rows().next() else { return SessionValues::new() };
    let value = |(at, name): (usize, &&'static str)| Some((*name, value(row, at, name, selection)?.to_string()));
    selection.functions.iter().enumerate().filter_map(value).collect()
}

/// Returns the value of a function. Its column is called like the call; if no column is, its place decides.
fn value<'a>(row: Row<'a>, at: usize, name: &str, selection: Selection) -> Option<&'a str> {
    let named = row.get(&format!("{name}()")).or_else(|| row.get(name));
    named.or_else(|| row.at(at).filter(|_| row.width() == selection.functions.len()))
}

/// Returns what was compared.
fn same_account(values: &SessionValues, resource: &AccountResource) -> Result<String, Failure> {
    let value = |name: &str| values.get(name).map(|text| text.to_uppercase());
    let locator = value("CURRENT_ACCOUNT");
    let named = value("CURRENT_ORGANIZATION_NAME").zip(value("CURRENT_ACCOUNT_NAME"));
    // A host has hyphens where the name of the account has underscores.
    let normal = |text: &str| text.replace('_', "-");
    let (same, matched) = match &resource.name {
        AccountName::Locator(wanted) => (locator.as_deref() == Some(wanted), format!("the account locator is {wanted}")),
        AccountName::Organization { organization, account } => {
            let same = |(o, a): &(String, String)| o == organization && normal(a) == normal(account);
            (named.as_ref().is_some_and(same), format!("organization and account are {organization}-{account}"))
        }
    };
    if same {
        return Ok(matched);
    }
    let found = match (&named, &locator) {
        (Some((organization, account)), Some(locator)) => format!("{organization}-{account} (locator {locator})"),
        (Some((organization, account)), None) => format!("{organization}-{account}"),
        (None, Some(locator)) => format!("the locator {locator}"),
        (None, None) => "no account".to_string(),
    };
    let found = redact::scrub_and_cut(&found, 200);
    Err(Failure::new(
        Class::WrongService,
        format!("Snowflake answers as {found}, and the resource id names {}", resource.display()),
        "correct resource_ids, or use the credential of that account; a connection URL of several accounts names none of them, \
         so write ORGANIZATION-ACCOUNT",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn met(columns: &[&str], row: &[Option<&str>], id: &str) -> Result<String, Failure> {
        let types: Vec<_> = columns.iter().map(|name| json!({"name": name, "type": "text"})).collect();
        let body = json!({"resultSetMetaData": {"rowType": types}, "data": [row]});
        let result = ResultSet::parse(&body).unwrap();
        same_account(&values(IDENTITY, &result), &AccountResource::parse(id).unwrap())
    }

    #[test]
    fn the_account_must_be_the_one_of_the_resource_id() {
        let columns = ["CURRENT_ACCOUNT()", "CURRENT_ACCOUNT_NAME()", "CURRENT_ORGANIZATION_NAME()", "CURRENT_ROLE()"];
        let row = [Some("XY12345"), Some("MY_PROD"), Some("ACME"), Some("AAM")];
        for id in ["xy12345", "account_xy12345.us-east-1", "acme-my_prod", "acme-my-prod", "acme.my_prod"] {
            assert!(met(&columns, &row, id).is_ok(), "{id}");
            let lower: Vec<String> = columns.iter().map(|name| name.to_lowercase()).collect();
            assert!(met(&lower.iter().map(String::as_str).collect::<Vec<_>>(), &row, id).is_ok(), "{id}");
        }
        for id in ["ab12345", "acme-prod", "other-my_prod"] {
            let failure = met(&columns, &row, id).unwrap_err();
            assert_eq!(failure.class, Class::WrongService);
            assert!(failure.title.contains("ACME-MY_PROD (locator XY12345)"), "{}", failure.title);
        }
        // A server that names its columns otherwise, and one that says nothing.
        assert!(met(&["'XY12345'", "a", "b", "c"], &row, "xy12345").is_ok());
        assert!(met(&["a", "b"], &[Some("XY12345"), None], "xy12345").is_err(), "the place is not known");
        assert!(met(&columns, &[None, None, None, None], "xy12345").unwrap_err().title.contains("no account"));
    }
}
