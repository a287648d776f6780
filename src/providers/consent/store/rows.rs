//! The content of the store as rows of a database.

use super::super::format::{FORMAT, StoreContent, StoredGrant, StoredLink};
use crate::registry::consents::{ConsentChanges, ConsentCopy, ConsentRow};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

/// What belongs to no single grant or link.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u32,
    key_check: String,
}

/// The text of the row that stands for the whole store.
pub fn header(content: &StoreContent) -> String {
    serde_json::json!(Header { format: content.format, key_check: content.key_check.clone() }).to_string()
}

/// The whole content as rows.
pub fn copy(content: &StoreContent) -> ConsentCopy {
    ConsentCopy { content: header(content), rows: difference(None, content) }
}

/// Applies `changes` to what was known. Returns `None` if nothing was stored yet.
///
/// # Errors
/// What is wrong with a row. It names no key, because the id of a link is not for a log.
pub fn apply(known: Option<&StoreContent>, changes: &ConsentChanges) -> Result<Option<StoreContent>, String> {
    if changes.head.content.is_empty() {
        return Ok(None);
    }
    let format = serde_json::from_str::<serde_json::Value>(&changes.head.content)
        .map_err(|_| "its header is not valid JSON".to_string())?
        .get("format")
        .and_then(serde_json::Value::as_u64);
    if format != Some(u64::from(FORMAT)) {
        return Err(format!("this version of aam reads the format {FORMAT}, and it has another one"));
    }
    let Header { format, key_check } = parse(&changes.head.content, "its header")?;
    let mut content = match known.filter(|_| !changes.is_whole) {
        Some(known) => known.clone(),
        None => StoreContent { format, key_check: String::new(), grants: Vec::new(), links: Vec::new(), changed: false },
    };
    content.key_check = key_check;
    content.changed = false;
    let (grants, links) = (keys(changes, ConsentRow::GRANT), keys(changes, ConsentRow::LINK));
    content.grants.retain(|grant| !grants.contains(grant_key(grant).as_str()));
    content.links.retain(|link| !links.contains(link.id.as_str()));
    for ConsentRow { kind, key, content: text } in &changes.rows {
        let Some(text) = text else { continue };
        let is_at_its_place = match kind.as_str() {
            ConsentRow::GRANT => {
                let grant: StoredGrant = parse(text, "a grant")?;
                let is_at_its_place = grant_key(&grant) == *key;
                content.grants.push(grant);
                is_at_its_place
            }
            ConsentRow::LINK => {
                let link: StoredLink = parse(text, "a link")?;
                let is_at_its_place = link.id == *key;
                content.links.push(link);
                is_at_its_place
            }
            _ => return Err("it has rows of a kind that this version of aam does not know".to_string()),
        };
        if !is_at_its_place {
            return Err(format!("a {kind} is in the row of another one"));
        }
    }
    Ok(Some(content))
}

/// The keys of the rows of `kind`.
fn keys<'a>(changes: &'a ConsentChanges, kind: &str) -> HashSet<&'a str> {
    changes.rows.iter().filter(|row| row.kind == kind).map(|row| row.key.as_str()).collect()
}

/// The rows that differ between `old` and `new`.
pub fn difference(old: Option<&StoreContent>, new: &StoreContent) -> Vec<ConsentRow> {
    let (grants, links) = old.map_or((&[][..], &[][..]), |old| (&old.grants[..], &old.links[..]));
    let mut rows = changed(ConsentRow::GRANT, grants, &new.grants, grant_key);
    rows.extend(changed(ConsentRow::LINK, links, &new.links, |link| link.id.clone()));
    // In one order in every process.
    rows.sort_by(|a, b| (&a.kind, &a.key).cmp(&(&b.kind, &b.key)));
    rows
}

fn changed<T: PartialEq + Serialize>(kind: &str, old: &[T], new: &[T], key: impl Fn(&T) -> String) -> Vec<ConsentRow> {
    let mut before: HashMap<String, &T> = old.iter().map(|one| (key(one), one)).collect();
    let mut rows = Vec::new();
    let row = |key, content| ConsentRow { kind: kind.to_string(), key, content };
    for one in new {
        let key = key(one);
        if before.remove(&key) != Some(one) {
            rows.push(row(key, Some(serde_json::json!(one).to_string())));
        }
    }
    rows.extend(before.into_keys().map(|key| row(key, None)));
    rows
}

fn grant_key(grant: &StoredGrant) -> String {
    format!("{} {}", grant.facts.subject.connection, grant.facts.subject.consent)
}

/// The message of the parser could repeat a part of the text.
fn parse<T: DeserializeOwned>(text: &str, what: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|_| format!("{what} has another form than this version of aam knows"))
}

#[cfg(test)]
mod tests {
    use super::super::super::format::{ClientAuth, GrantFacts, GrantToken, Subject};
    use super::super::super::keys::StoreKeys;
    use super::*;
    use crate::credentials::Secret;
    use crate::model::{ConnectionId, Timestamp};
    use crate::registry::consents::ConsentHead;

    fn subject(n: usize) -> Subject {
        let resource_ids = vec![format!("r{n}")];
        Subject {
            connection: ConnectionId::derive("autonomy", "github", &resource_ids),
            namespace: "autonomy".to_string(),
            family: "github".to_string(),
            resource_ids,
            owner: "owner@acme.example".to_string(),
            consent: "acme".to_string(),
        }
    }

    fn grant(keys: &StoreKeys, n: usize, version: u64) -> StoredGrant {
        let facts = GrantFacts {
            id: format!("g{n}"),
            version,
            subject: subject(n),
            client_id: "client".to_string(),
            token_url: "https://vendor.example/token".to_string(),
            auth: ClientAuth::None,
            asked: Vec::new(),
            scopes: Vec::new(),
            since: Timestamp(1),
            refreshed: None,
            ends: None,
            end_moves: false,
            rotates: None,
            sent: None,
        };
        StoredGrant::new(keys, facts, &GrantToken::Refresh(Secret::new(format!("token-{n}-{version}")))).expect("a grant")
    }

    fn changes(content: &str, is_whole: bool, rows: Vec<ConsentRow>) -> ConsentChanges {
        ConsentChanges { head: ConsentHead::of_test(content), is_whole, rows }
    }

    /// What another process has after it applied the rows that differ.
    fn followed(old: &StoreContent, new: &StoreContent) -> (usize, StoreContent) {
        let rows = difference(Some(old), new);
        let count = rows.len();
        let whole = apply(None, &changes(&header(old), true, difference(None, old))).expect("readable");
        (count, apply(whole.as_ref(), &changes(&header(new), false, rows)).expect("readable").expect("there"))
    }

    fn assert_same(left: &StoreContent, right: &StoreContent) {
        assert_eq!(left.key_check, right.key_check);
        assert_eq!(difference(Some(left), right), []);
    }

    #[test]
    fn only_rows_that_differ_are_written_and_a_reader_gets_the_same_content() {
        let keys = StoreKeys::parse(&Secret::new("11".repeat(32))).expect("a key");
        let mut old = StoreContent::new(&keys).expect("content");
        (0..5).for_each(|n| old.put_grant(grant(&keys, n, 1)));
        let link = StoredLink::new(&keys, subject(9), None, Timestamp(1)).expect("a link");
        old.put_link(link.clone(), Timestamp(1));
        let (count, same) = followed(&old, &old);
        assert_eq!(count, 0, "nothing differs");
        assert_same(&same, &old);
        let mut new = old.clone();
        new.put_grant(grant(&keys, 3, 2));
        new.remove_grant(subject(1).connection, "acme");
        new.put_grant(grant(&keys, 7, 1));
        new.replace_links(link.facts.subject.connection, Timestamp(2));
        let (count, followed) = followed(&old, &new);
        assert_eq!(count, 4, "one is changed, one removed, one added, and one link replaced");
        assert_same(&followed, &new);
        assert_eq!(followed.grants.len(), 5);
        let token = followed.grant(subject(3).connection, "acme").and_then(|grant| grant.token(&keys));
        assert_eq!(token, Some(GrantToken::Refresh(Secret::new("token-3-2".to_string()))));
        assert_eq!(apply(None, &changes("", true, Vec::new())).expect("readable").map(|_| ()), None, "nothing was stored yet");
    }

    #[test]
    fn rows_that_cannot_be_understood_are_refused_without_their_content() {
        let keys = StoreKeys::parse(&Secret::new("11".repeat(32))).expect("a key");
        let mut content = StoreContent::new(&keys).expect("content");
        content.put_grant(grant(&keys, 1, 1));
        let rows = difference(None, &content);
        let good = header(&content);
        let with = |change: &dyn Fn(&mut ConsentRow)| {
            let mut rows = rows.clone();
            rows.iter_mut().for_each(change);
            changes(&good, true, rows)
        };
        for (bad, why) in [
            (changes("{", true, Vec::new()), "not valid JSON"),
            (changes(&good.replace(":1", ":2"), true, Vec::new()), "reads the format 1"),
            (changes("{\"format\":1}", true, Vec::new()), "its header has another form"),
            (with(&|row| row.content = Some("{\"facts\":\"secret\"}".to_string())), "a grant has another form"),
            (with(&|row| row.key = "another".to_string()), "in the row of another one"),
            (with(&|row| row.kind = "lease".to_string()), "does not know"),
        ] {
            let error = apply(None, &bad).expect_err(why);
            assert!(error.contains(why) && !error.contains("secret"), "{error}");
        }
        assert!(apply(None, &with(&|_| ())).is_ok());
    }
}
