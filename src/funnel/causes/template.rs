//! Takes the variable parts out of a message, so that messages about the same cause become equal. Pure.
//!
//! Variable are quoted texts, names of environment variables, locators, hosts, addresses, paths, numbers, scopes, and what
//! follows a noun that introduces a name, as in "bucket acme". What is not recognized stays, so that two causes are rather
//! listed apart than confused.

/// What stands for a variable part.
pub const GAP: &str = "…";

/// Nouns after which a name follows.
const INTRODUCING: &str = "bucket collection consent database dataset organization principal project repository role scope stream table \
    tenant user variable";

/// What may follow such a noun and is not a name.
const PLAIN: &str = "a accepts according all allows also an and answered answers are as at because belongs by can cannot changed \
    could did do does ended ends exists expired failed fails for from had has have id ids if in is it itself lacks \
    list listing lists may must name named names needs no not of on only or owner refused refuses rejected rejects \
    returned returns said says should than that the there to type types uses wants was were when where which with \
    without would";

/// Names with digits, points or slashes that mean the same in every message.
const KEPT: &str = "and/or api.tokens application/json base64 credentials.consent_store credentials.vault.address \
    credentials.vault.login credentials.vault.namespace e.g eligibility.max_risk evidence.source evidence.status \
    http/1.1 http/2 i.e i/o imdsv2 ipv4 ipv6 m365 m365_sharepoint md5 network.allow_private network.proxy oauth1 \
    oauth2 owner.confidence owner.why s3 s3_compat sha-256 sha256 sigv4 utf-8 v2 x509";

const OPENING: [char; 5] = ['(', '[', '{', '<', '\''];
const CLOSING: [char; 11] = [')', ']', '}', '>', '\'', '.', ',', ':', ';', '!', '?'];

/// A message without its variable parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// The message with [`GAP`] for each variable part, or for each list of them.
    pub text: String,
    /// The variable parts, the quoted ones first.
    pub values: Vec<String>,
}

/// Takes the variable parts out of `message`.
#[must_use]
pub fn template(message: &str) -> Template {
    let mut values = Vec::new();
    let unquoted = without_quotes(message, &mut values);
    let mut out: Vec<String> = Vec::new();
    let mut previous = String::new();
    for word in unquoted.split_whitespace() {
        let (before, core, after) = split(word);
        let lower = core.to_lowercase();
        if core.contains(GAP) {
            push_gap(&mut out, before, after);
        } else if is_variable(core, &lower, &previous) {
            values.push(core.to_string());
            push_gap(&mut out, before, after);
        } else {
            out.push(word.to_string());
        }
        previous = if after.is_empty() { lower } else { String::new() };
    }
    Template { text: out.join(" "), values }
}

/// Replaces each text in quotation marks by a gap.
fn without_quotes(message: &str, values: &mut Vec<String>) -> String {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((before, quote, inner)) = next_quote(rest) {
        out.push_str(before);
        match end_of_quote(inner, quote).and_then(|end| Some((inner.get(..end)?, inner.get(end + 1..)?))) {
            Some((value, after)) => {
                values.push(value.to_string());
                out.push_str(GAP);
                rest = after;
            }
            None => {
                out.push(quote);
                rest = inner;
            }
        }
    }
    out.push_str(rest);
    out
}

/// The text before the next quotation mark, the mark, and the text after it.
fn next_quote(text: &str) -> Option<(&str, char, &str)> {
    let at = text.find(['"', '`'])?;
    let (before, from) = text.split_at(at);
    let mut chars = from.chars();
    let quote = chars.next()?;
    Some((before, quote, chars.as_str()))
}

/// Where the quotation ends that `text` is the inside of. A backslash escapes the next character.
fn end_of_quote(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at),
            _ => {}
        }
    }
    None
}

/// Splits the punctuation off a word.
fn split(word: &str) -> (&str, &str, &str) {
    let rest = word.trim_start_matches(OPENING);
    let core = rest.trim_end_matches(CLOSING);
    let before = word.strip_suffix(rest).unwrap_or_default();
    let after = rest.strip_prefix(core).unwrap_or_default();
    (before, core, after)
}

/// Whether `text` is one of the names in `list`, which are separated by blanks.
fn lists(list: &str, text: &str) -> bool {
    list.split(' ').any(|name| name == text)
}

fn is_variable(core: &str, lower: &str, previous: &str) -> bool {
    if core.is_empty() || lists(KEPT, lower) || (lower == "365" && previous == "microsoft") {
        return false;
    }
    let is_constant_name = core.contains('_') && core.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    core.contains(['/', '@', ':', '=', '\\', '*', '#', '%'])
        || core.trim_matches('.').contains('.')
        || core.chars().any(|c| c.is_ascii_digit())
        || is_constant_name
        || (lists(INTRODUCING, previous) && !lists(PLAIN, lower))
}

/// Whether a list of gaps may go on after `word`.
fn is_open(word: &str) -> bool {
    word.trim_end_matches(',').ends_with(GAP)
}

/// Adds a gap. The gaps of a list, as in "a, b and c", become one, so that lists of different lengths become equal.
fn push_gap(out: &mut Vec<String>, before: &str, after: &str) {
    let joined = matches!(out.last().map(String::as_str), Some("and" | "or"));
    let earlier = out.iter().rev().nth(usize::from(joined)).filter(|word| before.is_empty() && is_open(word)).cloned();
    match earlier {
        Some(earlier) => {
            out.truncate(out.len().saturating_sub(1 + usize::from(joined)));
            out.push(format!("{}{after}", earlier.trim_end_matches(',')));
        }
        None => out.push(format!("{before}{GAP}{after}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_variable_parts_are_taken_out() {
        let cases = [
            (
                "environment variable SHOP_READER is not set, and the file var/secrets/SHOP_READER does not exist",
                "environment variable … is not set, and the file … does not exist",
            ),
            ("the file seeds/a.csv does not exist", "the file … does not exist"),
            ("bucket acme does not exist at minio.example:9000", "bucket … does not exist at …"),
            ("the bucket does not exist", "the bucket does not exist"),
            ("postgres db.example:5432/shop: the database does not exist", "postgres …: the database does not exist"),
            (
                "s3:ListBucket on arn:aws:s3:::acme is not allowed for this access key",
                "… on … is not allowed for this access key",
            ),
            ("minio.example:9000 listed bucket \"other\" instead of \"ac\\\"me\"", "… listed bucket … instead of …"),
            ("consent:crm was not granted: read:org, Sites.Read.All and chat:write", "… was not granted: …"),
            (
                "owner.confidence is 0.4; the policy requires 0.8 at least",
                "owner.confidence is …; the policy requires … at least",
            ),
            (
                "Not called: 10.4.3.12 is a private address and the policy does not allow it",
                "Not called: … is a private address and the policy does not allow it",
            ),
            ("source type fax is not on the policy's allowlist", "source type fax is not on the policy's allowlist"),
            (
                "GitHub needs a credential and the intent has no credential_locator",
                "GitHub needs a credential and the intent has no credential_locator",
            ),
            ("Microsoft 365 SharePoint failed with 503", "Microsoft 365 SharePoint failed with …"),
            ("the scope files of the token", "the scope … of the token"),
            ("it answered \"no", "it answered \"no"),
            ("", ""),
        ];
        for (message, expected) in cases {
            assert_eq!(template(message).text, expected);
        }
        let locator = template("env:A_B of \"x y\" is not a user@acme.example, see (http://h/p).");
        assert_eq!(locator.text, "… of … is not a …, see (…).");
        assert_eq!(locator.values, ["x y", "env:A_B", "user@acme.example", "http://h/p"]);
    }

    #[test]
    fn messages_that_differ_in_their_variable_parts_are_equal_and_others_are_not() {
        let text = |message: &str| template(message).text;
        let missing = |variable: &str| format!("environment variable {variable} is not set");
        assert_eq!(text(&missing("A_TOKEN")), text(&missing("lower")));
        assert_eq!(text("missing: a:r"), text("missing: a:r, b:r, c:r or d:r"));
        assert_ne!(text("h.example rejected the credential"), text("h.example did not answer"));
    }

    proptest! {
        #[test]
        fn every_message_has_a_template_that_stays_the_same(message in "\\PC{0,120}") {
            let once = template(&message);
            prop_assert_eq!(&template(&once.text).text, &once.text);
        }
    }
}
