//! Recognises operations that AAM must not call although they are GETs, by their names.
//!
//! HTTP calls GET safe (RFC 9110, section 9.2.1), but services have GETs that log out, start a job, create a token or
//! return a secret. The names of an operation are the only sign of that. This module is pure.

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

/// What a name means, and where it means that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// An action or a sensitive thing wherever it stands in a path or an operationId.
    Anywhere,
    /// An action only where a verb stands: as the first word of an operationId, or as the whole last segment of a path.
    /// Elsewhere it is usually a noun: `/import-jobs`.
    AsVerb,
    /// A thing that is not dangerous to request, but that other operations are preferred to.
    Last,
}

/// The names, in lower case and separated by spaces. Only whole parts of a name count, so `/exports` and `/cartoons` may be
/// called. `sign-out` stands for the two parts of `sign_out` and `signOut`.
const NAMES: &[(Meaning, &str)] = &[
    // Sessions.
    (
        Meaning::Anywhere,
        "login logon logout logoff signin signon signout signoff signup log-in log-on log-out log-off sign-in sign-on \
         sign-out sign-off sign-up authenticate authorize impersonate unregister callback oauth oauth2 saml sso",
    ),
    // Changes of data.
    (
        Meaning::Anywhere,
        "create insert upsert modify delete destroy remove purge erase wipe flush truncate undelete unarchive rename \
         assign unassign unset unlink",
    ),
    // Secrets, and what creates or ends them.
    (
        Meaning::Anywhere,
        "token secret secrets credential credentials password passwords passwd passphrase otp totp csrf xsrf jwt \
         captcha api-key access-key private-key apikey revoke rotate reset regenerate renew invalidate mint unlock \
         enroll",
    ),
    // Jobs, machines and files that are made on request.
    (
        Meaning::Anywhere,
        "send resend trigger run rerun execute exec invoke start stop restart reboot shutdown shut-down kill terminate \
         pause resume suspend enable disable activate deactivate deploy undeploy rollback roll-back unpublish reindex \
         rebuild reload uninstall export download turn-on turn-off switch-on switch-off",
    ),
    // Decisions and purchases.
    (
        Meaning::Anywhere,
        "cancel approve disapprove reject decline confirm verify submit reopen subscribe unsubscribe unfollow opt-in \
         opt-out cart basket checkout check-out check-in purchase refund withdraw redeem",
    ),
    (
        Meaning::AsVerb,
        "accept add archive backup buy capture charge claim clear clone close drop edit fork generate grant import \
         install invite join leave lock merge move notify patch pay publish put refresh register restore retry save set \
         sync transfer update upload validate vote",
    ),
    (
        Meaning::Last,
        "tokens keys apikeys jwks session sessions cookie cookies webhook logs audit debug metrics admin internal \
         private",
    ),
];

/// Words that follow a verb and precede its object, as in "Deletes the user". "Exports list" is the name of a list.
const DETERMINERS: &[&str] = &["the", "a", "an", "all", "this", "that", "your", "my", "one", "current", "every", "each", "any"];

/// Judges a GET operation by its path, its operationId and its summary.
#[must_use]
pub fn assess(path: &str, operation_id: Option<&str>, summary: Option<&str>) -> NameRisk {
    let bare = without_placeholders(path);
    let segments: Vec<Vec<String>> = bare.split('/').map(split_name).filter(|parts| !parts.is_empty()).collect();
    let ends_with_name = !path.trim_end_matches('/').ends_with('}');
    for (at, parts) in segments.iter().enumerate() {
        let whole = ends_with_name && at + 1 == segments.len() && parts.len() == 1;
        if let Some(name) = find(parts, Meaning::Anywhere).or_else(|| find(parts, Meaning::AsVerb).filter(|_| whole)) {
            return NameRisk::SideEffect(name);
        }
    }
    let id = operation_id.map(split_name).unwrap_or_default();
    let verb = operation_id.map(verb_part).unwrap_or_default().get(..1).and_then(|first| find(first, Meaning::AsVerb));
    if let Some(name) = find(&id, Meaning::Anywhere).or(verb).or_else(|| summary.and_then(summary_action)) {
        return NameRisk::SideEffect(name);
    }
    let late = segments.iter().chain(std::iter::once(&id)).find_map(|parts| find(parts, Meaning::Last));
    late.map_or(NameRisk::Harmless, NameRisk::Sensitive)
}

/// The path without `{name}`. A placeholder may contain slashes, and names may follow it: `/{name=jobs/*}:cancel`.
fn without_placeholders(path: &str) -> String {
    let mut depth = 0_usize;
    path.chars()
        .filter(|c| {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => return depth == 0,
            }
            false
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
    let known = |text: &str| names().any(|name| name == text);
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
            let as_verb = find(&here[..1], Meaning::AsVerb).filter(|_| !next.is_empty());
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
    fn names_are_split_into_words() {
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
        ] {
            assert!(never(path, id, summary), "{path} {id} {summary}");
        }
    }

    #[test]
    fn only_whole_words_count() {
        for (path, id, summary) in [
            ("/exports-list", "exportsList", "Exports List"),
            ("/exports", "", "Exports"),
            ("/runs", "listRuns", "List the runs that start today"),
            ("/cartoons", "", ""),
            ("/creators", "listCreators", "List creators"),
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
