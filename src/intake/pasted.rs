//! Detects a credential that stands where its location belongs: in `credential_locator`.
//!
//! Documents are stored and shown, so a password must not get into one. A locator of a known form is refused only if a
//! part of it looks like a token. The grammar of a form that AAM does not know is also that of `user:password`, so it
//! must also look like the location of a secret: it names a secret store, has the form of a URL or a path, or consists of
//! plain names.

use super::leaks;
use crate::model::locator::LOCATOR_SCHEMES;
use crate::model::locator_forms::{nearest_scheme, secret_store, variable};

/// Whether the text of `credential_locator` is, contains or could be a credential.
#[must_use]
pub fn is_credential(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return leaks::secret_value(text) || looks_random(text) || !is_bare_location(text);
    };
    if [text, scheme, rest].into_iter().any(leaks::secret_value) || leaks::secret_in_address(text) {
        return true;
    }
    let parts = |text: &str| text.split(SEPARATORS).any(leaks::secret_value);
    if parts(rest) {
        return true;
    }
    // No variable has such a name, so only what reads like one is kept.
    if scheme == "env" && !rest.chars().all(|c| c.is_ascii_alphanumeric() || "_-./${}()%".contains(c)) {
        return true;
    }
    if scheme == "file" {
        // Paths of mounted volumes contain hashes and random names.
        return !rest.contains(['/', '.']) && looks_random(rest);
    }
    // Names of secrets in AWS end in random characters.
    if !scheme.eq_ignore_ascii_case("arn") && looks_random(rest) {
        return true;
    }
    let known = LOCATOR_SCHEMES.contains(&scheme) || nearest_scheme(scheme).is_some() || secret_store(scheme).is_some();
    !known && !is_location(scheme, rest)
}

/// What separates the parts of a path, a URL or an ARN.
const SEPARATORS: [char; 11] = ['/', ':', '#', '.', '?', '&', '=', '@', ',', ';', '|'];

/// Whether `scheme:rest`, of which nothing is known, looks like the location of a secret.
fn is_location(scheme: &str, rest: &str) -> bool {
    if names_a_person_or_a_secret(scheme) {
        return false;
    }
    let (path, field) = rest.split_once('#').unwrap_or((rest, ""));
    if !field.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')) {
        return false;
    }
    if let Some(path) = path.strip_prefix("//") {
        return path.split('/').all(|segment| !has_unusual_punctuation(segment));
    }
    if path.contains('/') {
        return path.split('/').all(|segment| !has_unusual_punctuation(segment) && !is_common_password(segment));
    }
    path.split(':').all(is_plain_name)
}

/// Whether a text without a scheme looks like the location of a secret: a variable, a path of plain names, or a name that
/// says that it names a secret, such as `github-token`.
fn is_bare_location(text: &str) -> bool {
    let named = text.split(['-', '_', '.']).any(|part| NAMING_WORDS.contains(&part.to_ascii_lowercase().as_str()));
    let segments = || text.split(['/', '#']).filter(|part| !matches!(*part, "" | "." | ".." | "~"));
    match variable(text) {
        Some(name) => is_plain_name(&name) || text.starts_with(['$', '%', '{']),
        None if text.contains('/') => segments().count() > 0 && segments().all(|part| part == "secret" || is_plain_name(part)),
        None => named && text.contains(['-', '_', '.']) && is_plain_name(text),
    }
}

/// Whether a part reads like a name: `github-read`, `eu-1`, `GITHUB_TOKEN`. `hunter2` and `S3cret` do not.
fn is_plain_name(part: &str) -> bool {
    let pieces: Vec<&str> = part.split(['-', '_', '.']).collect();
    let upper = part.contains('_') && !part.contains(|c: char| c.is_ascii_lowercase());
    let is_word = |word: &&str| {
        let bare = word.strip_prefix(['v', 'V']).unwrap_or(word);
        let number = bare.len() <= 4 && !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit());
        let letters = match upper {
            true => word.bytes().all(|byte| byte.is_ascii_uppercase()),
            false => word.bytes().all(|byte| byte.is_ascii_lowercase()),
        };
        number && pieces.len() > 1 || letters && (1..=20).contains(&word.len())
    };
    // Four pieces without a hint that they name something could be a passphrase.
    let naming = |word: &&str| NAMING_WORDS.contains(&word.to_ascii_lowercase().as_str());
    pieces.iter().all(is_word) && (pieces.len() <= 3 || upper || pieces.iter().any(naming)) && !is_common_password(part)
}

/// What occurs in the names of secrets and hardly in a passphrase.
const NAMING_WORDS: [&str; 24] = [
    "aam",
    "api",
    "app",
    "client",
    "credential",
    "credentials",
    "dev",
    "github",
    "gitlab",
    "jira",
    "key",
    "oauth",
    "prod",
    "production",
    "read",
    "readonly",
    "salesforce",
    "secret",
    "service",
    "slack",
    "staging",
    "test",
    "token",
    "zoom",
];

fn has_unusual_punctuation(text: &str) -> bool {
    text.contains(|c: char| !c.is_alphanumeric() && !matches!(c, '-' | '_' | '.' | '@' | ':' | '~' | '+' | ',' | '?' | '='))
}

/// Names of accounts, and labels that people write before a secret. They are compared with each part of the scheme.
const ACCOUNTS: &str = "\
    account admin administrator aam airbyte api apikey app application auth authorization backup basic bearer bot client \
    clientid cred credential credentials db dba dbuser default demo deploy deployer dev etl guest info integration jwt key \
    login mail me monitor monitoring mysql oracle ops owner pass passphrase passwd password pat postgres pw pwd reader \
    readonly readwrite ro robot root rw sa scott secret service support svc svcaccount sync sys system test tester token \
    user userid username value writer \
    alex alice andrea andreas anna anne ben bob carol charlie chris christian claire daniel dave david eric eva eve frank \
    george hans ivan jack james jan jane jean joe john jose juan julia karl kate klaus laura lisa maria mark martin mary max \
    michael mike oscar paul peter robert sam sara sarah stefan steve susan thomas tim tom trent walter wei";

fn names_a_person_or_a_secret(scheme: &str) -> bool {
    let lower = scheme.to_ascii_lowercase();
    // `john.doe` is the name of an account; no secret store has a dot in its scheme.
    lower.contains('.')
        || leaks::secret_name(&lower)
        || lower.split(['-', '_', '+']).any(|part| ACCOUNTS.split_whitespace().any(|account| account == part))
}

/// Passwords of letters only that lists of leaked passwords begin with.
const COMMON_PASSWORDS: &str = "\
    abc admin amanda andrew anthony ashley asdfgh asdfghjkl baseball batman buster changeit changeme charlie cheese chelsea \
    computer correct-horse-battery-staple daniel default dragon flower football freedom hello hockey hunter iloveyou jennifer \
    jessica jordan joshua killer letmein liverpool login love lovely maggie master matrix matthew michael michelle money \
    monkey mustang nicole orange passw0rd password pepper princess purple qazwsx qwerty qwertyuiop ranger robert root samsung \
    secret shadow soccer starwars summer sunshine superman thomas thunder tigger trustno welcome whatever william winter \
    yellow zaq zxcvbn zxcvbnm";

fn is_common_password(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    COMMON_PASSWORDS.split_whitespace().any(|password| password == lower)
}

/// Whether a part of the text, or all of it, looks as if a machine had drawn it.
fn looks_random(text: &str) -> bool {
    let text = without_uuids(text);
    let single = !text.contains(['/', '#', '.']);
    // A secret access key of AWS has 40 characters of base64 and may contain `/`.
    let base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '+');
    if text.len() == 40 && text.chars().all(base64) && Shape::new(&text).is_mixed(0.3, 1) {
        return true;
    }
    text.split(SEPARATORS).any(|segment| {
        let shape = Shape::new(segment);
        let hex = shape.length >= 32 && segment.bytes().all(|byte| byte.is_ascii_hexdigit());
        if hex && !single {
            return false;
        }
        hex || shape.length >= 16 && (shape.is_mixed(0.4, 2) || shape.is_letters_only_mixed())
            || shape.length >= 20 && shape.digits >= 4 && shape.changes_per_character() >= 0.3
    })
}

/// Leaves out the UUIDs of a text, which name secrets as well as principals.
fn without_uuids(text: &str) -> String {
    let is_uuid = |at: usize| {
        let dashes = [8, 13, 18, 23];
        text.get(at..at + 36).is_some_and(|part| {
            part.bytes().enumerate().all(|(at, byte)| if dashes.contains(&at) { byte == b'-' } else { byte.is_ascii_hexdigit() })
        })
    };
    let mut rest = String::new();
    let mut at = 0;
    while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
        if is_uuid(at) {
            rest.push('u');
            at += 36;
        } else {
            rest.push(c);
            at += c.len_utf8();
        }
    }
    rest
}

/// How the letters and digits of a text are mixed.
#[derive(Default)]
struct Shape {
    length: usize,
    lower: usize,
    upper: usize,
    digits: usize,
    /// The number of neighbours of another class: lower case, upper case, digit.
    changes: usize,
}

impl Shape {
    fn new(text: &str) -> Shape {
        let mut shape = Shape::default();
        let mut before = None;
        for byte in text.bytes().filter(u8::is_ascii_alphanumeric) {
            let (class, count) = match byte {
                b'a'..=b'z' => (0, &mut shape.lower),
                b'A'..=b'Z' => (1, &mut shape.upper),
                _ => (2, &mut shape.digits),
            };
            *count += 1;
            shape.length += 1;
            shape.changes += usize::from(before.is_some_and(|before| before != class));
            before = Some(class);
        }
        shape
    }

    fn changes_per_character(&self) -> f64 {
        self.changes as f64 / self.length.max(1) as f64
    }

    /// Whether all three classes occur and change often.
    fn is_mixed(&self, changes_per_character: f64, min_digits: usize) -> bool {
        self.lower > 0 && self.upper > 0 && self.digits >= min_digits && self.changes_per_character() >= changes_per_character
    }

    /// Whether upper and lower case are about as frequent, as in no name of several parts.
    fn is_letters_only_mixed(&self) -> bool {
        self.digits == 0 && self.lower * 3 >= self.length && self.upper * 3 >= self.length && self.changes_per_character() >= 0.4
    }
}

#[cfg(test)]
#[path = "tests/pasted.rs"]
mod tests;
