//! The query of a request, checked against the parameters of its route. Pure.

use super::problem::ApiProblem;
use super::routes::QueryParam;
use crate::model::{State, Timestamp};

/// The number of ignored names that a warning shows.
const MAX_SHOWN_NAMES: usize = 5;
/// The maximum length of a name in a warning. A token, which somebody may have pasted there, is longer.
const MAX_NAME_BYTES: usize = 32;

/// The query parameters that the route declares, and the names of the others.
#[derive(Clone, Debug, Default)]
pub struct QueryParams {
    pairs: Vec<(&'static str, String)>,
    /// The names that the route does not declare, at most one more than a warning shows.
    ignored: Vec<String>,
}

impl QueryParams {
    /// Parses the query string `text`. Names that `allowed` does not contain are ignored, see [`QueryParams::warning`].
    ///
    /// # Errors
    /// Returns 400 for a parameter that is given twice with different values.
    pub fn read(text: Option<&str>, allowed: &[QueryParam]) -> Result<QueryParams, ApiProblem> {
        let mut query = QueryParams::default();
        for (name, value) in url::form_urlencoded::parse(text.unwrap_or_default().as_bytes()) {
            let Some(param) = allowed.iter().find(|param| param.name == name) else {
                if query.ignored.len() <= MAX_SHOWN_NAMES && !query.ignored.iter().any(|known| *known == name) {
                    query.ignored.push(name.into_owned());
                }
                continue;
            };
            let name = param.alias_of.unwrap_or(param.name);
            match query.pairs.iter().find(|(known, _)| *known == name) {
                None => query.pairs.push((name, value.into_owned())),
                Some((_, earlier)) if *earlier == value => {}
                Some(_) => {
                    return Err(ApiProblem::bad_request(format!("Query parameter {name} is given twice with different values.")));
                }
            }
        }
        query.pairs.sort_unstable();
        Ok(query)
    }

    /// Returns the text of a `Warning` header that names the ignored parameters. Returns `None` if there are none.
    #[must_use]
    pub fn warning(&self, allowed: &[QueryParam]) -> Option<String> {
        if self.ignored.is_empty() {
            return None;
        }
        let shown: Vec<String> = self.ignored.iter().take(MAX_SHOWN_NAMES).map(|name| shown(name)).collect();
        let more = if self.ignored.len() > MAX_SHOWN_NAMES { " and more" } else { "" };
        let what = if self.ignored.len() == 1 { "query parameter" } else { "query parameters" };
        let verb = if self.ignored.len() == 1 { "is" } else { "are" };
        let names: Vec<&str> = allowed.iter().map(|param| param.name).collect();
        let accepted = match names.is_empty() {
            true => "this endpoint does not take query parameters".to_string(),
            false => format!("this endpoint accepts {}", names.join(", ")),
        };
        Some(format!("{what} {}{more} {verb} ignored; {accepted}", shown.join(", ")))
    }

    /// Returns the declared parameters as a query string in a fixed order.
    #[must_use]
    pub fn canonical(&self) -> String {
        let pairs = self.pairs.iter().filter(|(_, value)| !value.is_empty());
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
    }

    /// Returns the value of `name`. An empty value counts as missing.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Returns the value of `name` as a whole number from 1 to `max`, or `default` if it is missing.
    ///
    /// # Errors
    /// Returns 400 for any other value.
    pub fn number(&self, name: &str, default: usize, max: usize) -> Result<usize, ApiProblem> {
        let Some(text) = self.get(name) else {
            return Ok(default);
        };
        text.parse()
            .ok()
            .filter(|number| (1..=max).contains(number))
            .ok_or_else(|| ApiProblem::bad_request(format!("{name} must be a whole number from 1 to {max}.")))
    }

    /// Returns the value of `name` as the number of an entry of the ledger.
    ///
    /// # Errors
    /// Returns 400 for a value that is not a whole number above 0.
    pub fn entry(&self, name: &str) -> Result<Option<u64>, ApiProblem> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let number = text.parse::<u64>().ok().filter(|number| *number > 0);
        number.map(Some).ok_or_else(|| ApiProblem::bad_request(format!("{name} must be the number of an entry of the ledger.")))
    }

    /// Returns the parameter `state`, in upper or lower case.
    ///
    /// # Errors
    /// Returns 400 with the list of states if the value is not a state.
    pub fn state(&self) -> Result<Option<State>, ApiProblem> {
        let Some(text) = self.get("state") else {
            return Ok(None);
        };
        State::parse(text.trim()).map(Some).ok_or_else(|| {
            let states: Vec<&str> = State::ALL.iter().map(|state| state.as_str()).collect();
            ApiProblem::bad_request(format!("state must be one of {}.", states.join(", ")))
        })
    }

    /// Returns the value of `name` as an instant.
    ///
    /// # Errors
    /// Returns 400 if the value is not an RFC 3339 timestamp.
    pub fn instant(&self, name: &str) -> Result<Option<Timestamp>, ApiProblem> {
        self.get(name).map(|text| instant(name, text)).transpose()
    }
}

/// Parses an RFC 3339 timestamp. A `+` that was not written as `%2B` arrives as a space.
///
/// # Errors
/// Returns 400 for any other text.
pub fn instant(name: &str, text: &str) -> Result<Timestamp, ApiProblem> {
    let restored = match text.rfind(' ') {
        Some(space) if text.contains(['T', 't']) => format!("{}+{}", &text[..space], &text[space + 1..]),
        _ => text.to_string(),
    };
    Timestamp::parse(&restored).map_err(|reason| {
        ApiProblem::bad_request(format!(
            "{name} must be an RFC 3339 timestamp with a time zone, for example 2026-11-08T18:00:00Z (write + as %2B): {reason}."
        ))
    })
}

/// Returns a name as a warning shows it. A name that could be a pasted token, or that would end the header, is described.
fn shown(name: &str) -> String {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'[' | b']'));
    match plain && !name.is_empty() && name.len() <= MAX_NAME_BYTES {
        true => name.to_string(),
        false => format!("({} bytes, not shown)", name.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_query_is_read_or_refused_and_its_warning_fits_into_a_header(text in "\\PC{0,200}|[a-z=&%0-9+]{0,200}") {
            if let Ok(query) = QueryParams::read(Some(&text), &ALLOWED) {
                let warning = query.warning(&ALLOWED).unwrap_or_default();
                prop_assert!(warning.len() < 400 && axum::http::HeaderValue::from_str(&warning).is_ok(), "{}", warning);
                let again = QueryParams::read(Some(&query.canonical()), &ALLOWED).expect("canonical");
                prop_assert_eq!(again.canonical(), query.canonical());
            }
        }
    }

    use crate::server::routes::QueryValue;

    const ALLOWED: [QueryParam; 3] = [
        QueryParam { name: "namespace", json_type: "string", description: "", alias_of: None, value: QueryValue::Any },
        QueryParam { name: "state", json_type: "string", description: "", alias_of: None, value: QueryValue::Any },
        QueryParam { name: "status", json_type: "string", description: "", alias_of: Some("state"), value: QueryValue::Any },
    ];

    fn read(text: &str) -> QueryParams {
        QueryParams::read(Some(text), &ALLOWED).expect("a valid query")
    }

    #[test]
    fn an_alias_is_the_parameter_and_a_contradiction_is_refused() {
        assert_eq!(read("status=active").state().expect("a state"), Some(State::Active));
        assert_eq!(read("status=ACTIVE&state=ACTIVE").get("state"), Some("ACTIVE"));
        assert_eq!(read("namespace=a&namespace=a").get("namespace"), Some("a"));
        for text in ["state=ACTIVE&status=ERROR", "namespace=a&namespace=b"] {
            assert_eq!(QueryParams::read(Some(text), &ALLOWED).expect_err("refused").status, 400, "{text}");
        }
        assert_eq!(read("state=ERROR&namespace=a").canonical(), read("x=1&namespace=a&status=ERROR").canonical());
    }

    #[test]
    fn ignored_names_are_named_and_a_token_is_not_repeated() {
        assert_eq!(read("namespace=a").warning(&ALLOWED), None);
        assert_eq!(
            read("tenant_id=7&namespace=a").warning(&ALLOWED).as_deref(),
            Some("query parameter tenant_id is ignored; this endpoint accepts namespace, state, status")
        );
        let token = format!("aam_{}", "x".repeat(43));
        let warning = read(&format!("{token}=1&a%0d%0ab=1")).warning(&ALLOWED).expect("a warning");
        assert!(!warning.contains(&token) && warning.contains("(47 bytes, not shown), (4 bytes, not shown) are"), "{warning}");
        let many: String = (0..1000).map(|n| format!("n{n}=1&")).collect();
        let warning = read(&many).warning(&ALLOWED).expect("a warning");
        assert!(warning.starts_with("query parameters n0, n1, n2, n3, n4 and more are ignored"), "{warning}");
        assert_eq!(
            QueryParams::read(Some("a=1"), &[]).expect("valid").warning(&[]).as_deref(),
            Some("query parameter a is ignored; this endpoint does not take query parameters")
        );
    }

    #[test]
    fn instants_are_rfc_3339_also_with_a_plus_that_became_a_space() {
        for text in ["2026-11-08T18:00:00Z", "2026-11-08T19:00:00+01:00", "2026-11-08T19:00:00 01:00", "2026-11-08 18:00:00Z"] {
            assert_eq!(instant("at", text).expect("an instant").0, 1_794_160_800_000, "{text}");
        }
        for text in ["yesterday", "2026-11-08", "2026-11-08T18:00:00", ""] {
            assert_eq!(instant("at", text).expect_err("refused").status, 400, "{text}");
        }
    }
}
