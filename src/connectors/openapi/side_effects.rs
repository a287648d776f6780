//! Recognises operations that AAM must not call although they are GETs, by their names.
//!
//! HTTP calls GET safe (RFC 9110, section 9.2.1), but services have GETs that log out, start a job, create a token or
//! return a secret. The names of an operation are the only sign of that. This module is pure.

use super::action_names::{DETERMINERS, FINAL, FIRST, INFLECTIONS, Meaning, NAMES, NOUNS, READ_ENDINGS};
use percent_encoding::percent_decode_str;
use url::Url;

/// What the names of an operation say about calling it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameRisk {
    /// The operation may be called.
    Harmless,
    /// The operation may return something sensitive, so it is called only if no other works. Holds the name.
    Sensitive(String),
    /// The operation is never called. Holds the name.
    SideEffect(String),
}

/// Judges a GET operation by its path, its operationId and its summary.
#[must_use]
pub fn assess(path: &str, operation_id: Option<&str>, summary: Option<&str>) -> NameRisk {
    let segments = segments_of(&without_placeholders(path));
    let id = operation_id.map(split_name).unwrap_or_default();
    let verb = operation_id.map(verb_part).unwrap_or_default().get(..1).and_then(|first| find(first, Meaning::AsVerb));
    let in_id = || find(&id, Meaning::Anywhere).or_else(|| joined_action(&id)).or(verb);
    if let Some(name) = action(&segments, 0).or_else(in_id).or_else(|| summary.and_then(summary_action)) {
        return NameRisk::SideEffect(name);
    }
    let late = segments.iter().chain(std::iter::once(&id)).find_map(|parts| find(parts, Meaning::Last));
    late.map_or(NameRisk::Harmless, NameRisk::Sensitive)
}

/// The action or the sensitive thing in the values of a URL that is built from the template `path`: in its filled
/// placeholders and its query. [`assess`] judges the template itself.
#[must_use]
pub fn filled_action(url: &Url, path: &str) -> Option<String> {
    let bare = path.split(['?', '#']).next().unwrap_or_default();
    let filled = url.path().rsplit('/').zip(bare.rsplit('/')).filter(|(_, template)| template.contains('{'));
    filled.map(|(value, _)| value).find_map(value_action).or_else(|| query_action(url))
}

/// The action or the sensitive thing in the path of a server. The names that `reviewed` begins with do not count.
#[must_use]
pub fn server_action(url: &Url, reviewed: &Url) -> Option<String> {
    let segments = segments_of(url.path());
    let known = common_start(&segments, &segments_of(reviewed.path()));
    segments.iter().skip(known).find_map(|parts| find(parts, Meaning::Anywhere).or_else(|| joined_action(parts)))
}

/// The action or the sensitive thing in the target of a redirect. The names that `from` begins with do not count, because
/// the request for `from` was allowed.
#[must_use]
pub fn redirect_action(to: &Url, from: &Url) -> Option<String> {
    let (segments, before) = (segments_of(to.path()), segments_of(from.path()));
    let known = common_start(&segments, &before);
    // The same name may be an action at the end of a path although it is not in the middle.
    let known = if known == segments.len() && known < before.len() { known.saturating_sub(1) } else { known };
    action(&segments, known).or_else(|| if to.query() == from.query() { None } else { query_action(to) })
}

fn common_start(a: &[Vec<String>], b: &[Vec<String>]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The parts of each segment of a path. An empty list stands for a placeholder or a number.
fn segments_of(path: &str) -> Vec<Vec<String>> {
    // An encoded slash separates segments in many servers, and proxies decode a path more than once.
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let decoded = decode(&decode(path));
    let mut segments: Vec<Vec<String>> = Vec::new();
    for segment in decoded.split('/').filter(|segment| !segment.is_empty()) {
        let number = segment.chars().all(|c| c.is_ascii_digit() || c == '-');
        segments.push(if number { Vec::new() } else { split_name(segment) });
    }
    segments
}

/// The first action or sensitive thing in the segments of a path from the index `first` on.
fn action(segments: &[Vec<String>], first: usize) -> Option<String> {
    segments.iter().enumerate().skip(first).find_map(|(at, parts)| {
        find(parts, Meaning::Anywhere)
            .or_else(|| joined_action(parts))
            .or_else(|| verb_action(parts, segments.get(at + 1).map(Vec::as_slice)))
    })
}

/// The verb with which a segment begins. `next` is the next segment of the path.
fn verb_action(parts: &[String], next: Option<&[String]>) -> Option<String> {
    let verb = find(parts.get(..1)?, Meaning::AsVerb)?;
    let object = if parts.len() > 1 { parts.get(1..) } else { next };
    let Some(object) = object else { return Some(verb) };
    // A verb before a value or a version is mostly a noun: `/import/{id}`, `/notify/v1`.
    let last = object.last()?;
    let version = last.strip_prefix('v').is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit()));
    let noun = NOUNS.contains(&verb.as_str()) && READ_ENDINGS.contains(&last.as_str());
    if version || noun { None } else { Some(verb) }
}

/// The action in a value of a path or query. A long text is not an action.
fn value_action(value: &str) -> Option<String> {
    segments_of(value)
        .iter()
        .filter(|parts| parts.len() <= 4)
        .find_map(|parts| find(parts, Meaning::Anywhere).or_else(|| joined_action(parts)).or_else(|| verb_action(parts, None)))
}

/// The action in the names and values of a query. A name does not count if its value switches it off.
#[must_use]
pub fn query_action(url: &Url) -> Option<String> {
    let off = |value: &str| matches!(value.to_ascii_lowercase().as_str(), "false" | "0" | "no" | "off");
    let pairs = url.query_pairs();
    pairs.into_iter().find_map(|(name, value)| {
        let named = if off(&value) { None } else { value_action(&name) };
        named.or_else(|| value_action(&value))
    })
}

/// The action with which a part of a name begins or ends, if names are joined without a separator.
fn joined_action(parts: &[String]) -> Option<String> {
    parts.iter().find_map(|word| {
        let begins = |name: &&&str| word.strip_prefix(**name).is_some_and(|rest| !continues(name, rest));
        let ends = |name: &&&str| word.ends_with(**name) && word != "preset";
        FIRST.iter().find(begins).or_else(|| FINAL.iter().find(ends)).map(ToString::to_string)
    })
}

/// Whether `rest` continues the word `name` to a word with another meaning: `resettlement`, `cancellation`.
fn continues(name: &str, rest: &str) -> bool {
    let other: &[&str] = match name {
        "reset" => &["tl", "tab", "ting", "ter", "ted"],
        "cancel" => &["l", "ed"],
        _ => &[],
    };
    INFLECTIONS.contains(&rest) || other.iter().any(|start| rest.starts_with(start))
}

/// The path with `-` in place of `{name}`. A placeholder may contain slashes, and names may follow it: `/{name=jobs/*}:cancel`.
fn without_placeholders(path: &str) -> String {
    let mut depth = 0_usize;
    path.chars()
        .filter_map(|c| {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => return (depth == 0).then_some(c),
            }
            (c == '{' && depth == 1).then_some('-')
        })
        .collect()
}

/// The parts of an operationId of which the first is the verb. Some generators put the class before the method:
/// `BackupLocations_List`.
fn verb_part(id: &str) -> Vec<String> {
    match id.rsplit_once(['_', '.']) {
        Some((_, method)) if id.starts_with(char::is_uppercase) => split_name(method),
        _ => split_name(id),
    }
}

/// Whether the names say that the operation returns a list. This is needed if the description does not describe its response.
#[must_use]
pub fn looks_like_a_list(path: &str, operation_id: Option<&str>) -> bool {
    let last = path.rsplit('/').find(|segment| !segment.is_empty()).unwrap_or_default();
    let id = operation_id.map(split_name).unwrap_or_default();
    let plural = last.len() > 3 && last.ends_with('s') && !["ss", "us", "is"].iter().any(|end| last.ends_with(end));
    !last.contains('{') && (plural || id.iter().any(|word| matches!(word.as_str(), "list" | "search" | "all" | "index")))
}

/// The first name with this meaning that occurs in `parts`.
fn find(parts: &[String], meaning: Meaning) -> Option<String> {
    let names = || NAMES.iter().filter(|(of, _)| *of == meaning).flat_map(|(_, names)| names.split(' '));
    // A number may follow a name: `logout2`.
    let known = |text: &str| names().any(|name| name == text || name == text.trim_end_matches(|c: char| c.is_ascii_digit()));
    let pairs = parts.windows(2).map(|pair| pair.join("-"));
    parts.iter().cloned().chain(pairs).find(|text| known(text))
}

/// The action or the sensitive thing in the first sentence of a summary. A sentence has verbs at its beginning and after
/// "and"; elsewhere the same word is a noun ("List the runs that start today").
fn summary_action(summary: &str) -> Option<String> {
    let sentence = summary.split(['.', ';', ':', '\n', '(']).next().unwrap_or_default();
    let parts = split_name(sentence);
    let begins = |at: usize| at == 0 || matches!(parts[at - 1].as_str(), "and" | "then" | "to");
    for at in (0..parts.len().min(8)).filter(|at| begins(*at)) {
        let (word, next) = (parts.get(at)?, parts.get(at + 1).map_or("", String::as_str));
        let inflected = DETERMINERS.contains(&next) || matches!(next, "in" | "out" | "on" | "off");
        for verb in std::iter::once(word.clone()).chain(stems(word).into_iter().filter(|_| inflected)) {
            let here = [verb, next.to_string()];
            if let Some(name) = find(&here, Meaning::Anywhere).filter(|name| name.starts_with(here[0].as_str())) {
                return Some(name);
            }
            // "Block details" is the name of a thing, "Block the user" is an action.
            let thing = matches!(here[0].as_str(), "block" | "commit" | "deposit" | "dump") && !inflected;
            let as_verb = find(&here[..1], Meaning::AsVerb).filter(|_| !next.is_empty() && !thing);
            if as_verb.is_some() {
                return as_verb;
            }
        }
    }
    // A long sentence may mention a token without returning it: "List the items that the owner of the token can see".
    let things = ["token", "secret", "secrets", "credentials", "password", "cart", "jwt", "otp"];
    parts.iter().filter(|_| parts.len() <= 6).find(|word| things.contains(&word.as_str())).cloned()
}

/// The verbs that the word may be a form of: `deletes` and `deleting` of `delete`.
fn stems(word: &str) -> Vec<String> {
    let mut stems = Vec::new();
    stems.extend(word.strip_suffix('s').map(str::to_string));
    stems.extend(word.strip_suffix("es").map(str::to_string));
    stems.extend(word.strip_suffix("ies").map(|stem| format!("{stem}y")));
    if let Some(stem) = word.strip_suffix("ing") {
        stems.push(stem.to_string());
        stems.push(format!("{stem}e"));
    }
    stems
}

/// Splits a name into lower-case parts at punctuation and between lower and upper case: `resetAPIKey` is `reset api key`.
fn split_name(name: &str) -> Vec<String> {
    let chars: Vec<char> = name.chars().take(500).collect();
    let mut parts = Vec::new();
    let mut word = String::new();
    for (at, c) in chars.iter().enumerate() {
        let (before, after) = (at.checked_sub(1).and_then(|at| chars.get(at)), chars.get(at + 1));
        let starts = c.is_uppercase()
            && before.is_some_and(|before| !before.is_uppercase() || after.is_some_and(|after| after.is_lowercase()));
        if (starts || !c.is_alphanumeric()) && !word.is_empty() {
            parts.push(std::mem::take(&mut word));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
    }
    if !word.is_empty() {
        parts.push(word);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never(path: &str, id: &str, summary: &str) -> bool {
        let optional = |text: &str| if text.is_empty() { None } else { Some(text.to_string()) };
        matches!(assess(path, optional(id).as_deref(), optional(summary).as_deref()), NameRisk::SideEffect(_))
    }

    #[test]
    fn names_are_split() {
        assert_eq!(split_name("resetAPIKey"), ["reset", "api", "key"]);
        assert_eq!(split_name("sign-out_user.v2"), ["sign", "out", "user", "v2"]);
        assert_eq!(split_name("AuthController_logout"), ["auth", "controller", "logout"]);
    }

    #[test]
    fn side_effects_and_secrets_are_recognised() {
        for (path, id, summary) in [
            ("/auth/logout", "", ""),
            ("/auth/sign-out", "", ""),
            ("/session", "signOut", ""),
            ("/x", "AuthController_logout", ""),
            ("/x", "logout_auth_logout_get", ""),
            ("/users/{id}/delete", "", ""),
            ("/users/{id}/api_key/rotate", "", ""),
            ("/deleteUser", "", ""),
            ("/v1/token", "", ""),
            ("/x", "getAccessToken", ""),
            ("/x", "list_credentials", ""),
            ("/cart", "", ""),
            ("/jobs/{id}/run", "", ""),
            ("/reports/export", "", ""),
            ("/files/{id}/download", "", ""),
            ("/newsletter/unsubscribe", "", ""),
            ("/orders/{id}/cancel", "", ""),
            ("/accounts/{id}/close", "", ""),
            ("/sync", "", ""),
            ("/x", "updateIndex", ""),
            ("/x", "update_index", ""),
            ("/x", "BooksController_update", ""),
            ("/x", "", "Deletes the current user"),
            ("/x", "", "Log out"),
            ("/x", "", "Logs out the user."),
            ("/x", "", "Get and remove the next message"),
            ("/x", "", "Returns a new access token"),
            ("/x", "", "Cancel an order"),
            ("/verify-email", "", ""),
            ("/checkOut", "", ""),
            ("/v1/{name=projects/*/jobs/*}:cancel", "", ""),
            ("/users/{id}.export", "", ""),
            ("/x?action=delete", "", ""),
            ("/deleteaccount", "", ""),
            ("/createuser", "", ""),
            ("/exportall", "", ""),
            ("/getcredentials", "", ""),
            ("/resettoken", "", ""),
            ("/addtocart", "", ""),
            ("/userlogout", "", ""),
            ("/logout2", "", ""),
            ("/a%2Flogout", "", ""),
            ("/a%252Flogout", "", ""),
            ("/clear-cache", "", ""),
            ("/generateKey", "", ""),
            ("/closeAccount", "", ""),
            ("/update-profile", "", ""),
            ("/sync/now", "", ""),
            ("/register-device", "", ""),
            ("/importUsers", "", ""),
            ("/vm/poweroff", "", ""),
            ("/queue/pop", "", ""),
            ("/connect/endSession", "", ""),
            ("/users/{id}/ban", "", ""),
            ("/account/deletion", "", ""),
            ("/api-keys", "", ""),
            ("/x", "deleteaccount", ""),
        ] {
            assert!(never(path, id, summary), "{path} {id} {summary}");
        }
    }

    #[test]
    fn only_whole_parts_of_a_name_count() {
        for (path, id, summary) in [
            ("/exports-list", "exportsList", "Exports List"),
            ("/exports", "", "Exports"),
            ("/runs", "listRuns", "List the runs that start today"),
            ("/cartoons", "", ""),
            ("/creators", "listCreators", "List creators"),
            ("/deliveries", "", ""),
            ("/resettlements", "", ""),
            ("/descriptions", "", ""),
            ("/started-at", "", ""),
            ("/exporters", "", ""),
            ("/presets", "", ""),
            ("/preset", "", ""),
            ("/cancellations", "", ""),
            ("/signing", "", ""),
            ("/passwordless", "", ""),
            ("/createdat", "", ""),
            ("/cartridges", "", ""),
            ("/block/latest", "", "Block details"),
            ("/block/{height}", "", ""),
            ("/commits", "", ""),
            ("/notify/v1/items", "", ""),
            ("/created-items", "", ""),
            ("/resettable", "", ""),
            ("/tokenizers", "", ""),
            ("/starters", "", ""),
            ("/import-jobs", "listImportJobs", ""),
            ("/backup-locations", "BackupLocations_List", ""),
            ("/updates/{update}", "getUpdate", ""),
            ("/books/{book}", "getBook", "Get a book"),
            ("/customers", "", "List customers. Use the token to verify and delete them."),
            ("/items", "", "List the items that the owner of the token may read"),
            ("/{delete}/items", "", ""),
            ("/import/{id}", "", ""),
            ("/v1/{export}:list", "", ""),
        ] {
            assert!(!never(path, id, summary), "{path} {id} {summary}");
        }
    }

    #[test]
    fn the_values_of_a_url_are_judged() {
        let filled = |url: &str, path: &str| filled_action(&Url::parse(url).unwrap(), path).is_some();
        assert!(filled("https://a.example/v1/do/logout", "/do/{verb}"));
        assert!(filled("https://a.example/do/a%2Flogout", "/do/{verb}"));
        assert!(filled("https://a.example/items?action=delete", "/items"));
        assert!(filled("https://a.example/items?export=true", "/items"));
        assert!(!filled("https://a.example/items?export=false&limit=20&q=started", "/items"));
        assert!(!filled("https://a.example/logout/items/7", "/items/{id}"));
        let server =
            |url: &str, reviewed: &str| server_action(&Url::parse(url).unwrap(), &Url::parse(reviewed).unwrap()).is_some();
        assert!(server("https://a.example/auth/logout", "https://a.example/openapi.json"));
        assert!(!server("https://a.example/oauth/v1", "https://a.example/oauth/openapi.json"));
        assert!(!server("https://a.example/notify/v1", "https://a.example/openapi.json"));
    }

    #[test]
    fn the_target_of_a_redirect_is_judged() {
        let redirect = |from: &str, to: &str| {
            let base = Url::parse("https://a.example").unwrap();
            redirect_action(&base.join(to).unwrap(), &base.join(from).unwrap()).is_some()
        };
        for (from, to) in [
            ("/items", "/auth/logout"),
            ("/openapi.json", "/delete-all"),
            ("/items", "/items?action=delete"),
            ("/items", "/a%2Flogout"),
            ("/import/7", "/import"),
        ] {
            assert!(redirect(from, to), "{from} {to}");
        }
        for (from, to) in [
            ("/items", "/items/"),
            ("/items?limit=1", "/v2/items?limit=1"),
            ("/openapi.json", "/docs/openapi.json"),
            ("/exported/export", "/exported/export/"),
            ("/oauth/openapi.json", "/oauth/v2/openapi.json"),
        ] {
            assert!(!redirect(from, to), "{from} {to}");
        }
    }

    #[test]
    fn sensitive_lists_come_last() {
        assert_eq!(assess("/tokens", None, None), NameRisk::Sensitive("tokens".into()));
        assert_eq!(assess("/admin/users", None, None), NameRisk::Sensitive("admin".into()));
        assert_eq!(assess("/users", Some("listUsers"), Some("List users")), NameRisk::Harmless);
    }

    #[test]
    fn undescribed_lists_are_recognised_by_name() {
        assert!(looks_like_a_list("/v1/items", None) && looks_like_a_list("/stuff", Some("listStuff")));
        assert!(!looks_like_a_list("/status", None) && !looks_like_a_list("/items/{items}", None));
    }
}
