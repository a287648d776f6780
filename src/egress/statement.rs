//! SQL statements and GraphQL documents without the values in them, for the record of calls.

/// What the text is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Standard SQL: names in double quotes, values in single quotes.
    Sql,
    /// MySQL: values in both quotes, with backslash escapes; names in backticks.
    Mysql,
    /// GraphQL: values in double quotes.
    GraphQl,
}

/// What replaces a value.
const MARK: char = '?';

/// The words after which a number is a limit of AAM and no value of the source.
const LIMITS: [&str; 9] =
    ["limit", "offset", "first", "next", "top", "statement_timeout", "lock_timeout", "max_execution_time", "max_statement_time"];

/// Returns `text` on one line, with every string and every number replaced by `?`. The numbers of limits stay, because they bound
/// what is read.
#[must_use]
pub fn without_values(text: &str, language: Language) -> String {
    let mut out = String::with_capacity(text.len().min(4096));
    let mut chars = text.chars().peekable();
    let mut word = String::new();
    let mut limited = false;
    while let Some(c) = chars.next() {
        let in_word = out.chars().next_back().is_some_and(is_word);
        match c {
            '\'' => skip_quoted(&mut chars, '\'', language != Language::Sql || in_word && word == "e", &mut out),
            '"' if language != Language::Sql => skip_quoted(&mut chars, '"', true, &mut out),
            '"' | '`' => {
                out.push(c);
                for inner in chars.by_ref() {
                    out.push(inner);
                    if inner == c {
                        break;
                    }
                }
            }
            '$' if language == Language::Sql
                && !in_word
                && chars.peek().is_some_and(|next| *next == '$' || next.is_alphabetic() || *next == '_') =>
            {
                skip_dollar_quoted(&mut chars, &mut out);
            }
            '0'..='9' if !in_word => {
                let mut number = String::from(c);
                while let Some(next) = chars.next_if(|next| is_word(*next) || *next == '.') {
                    number.push(next);
                }
                // A number after one of these signs names a parameter.
                if limited || out.ends_with(['?', '$']) { out.push_str(&number) } else { out.push(MARK) }
            }
            c if c.is_whitespace() => {
                if !out.ends_with(' ') && !out.is_empty() {
                    out.push(' ');
                }
            }
            c => out.push(c),
        }
        if is_word(c) {
            if !in_word {
                word.clear();
            }
            word.extend(c.to_lowercase());
            limited = LIMITS.contains(&word.as_str());
        } else if !(c.is_whitespace() || matches!(c, '=' | ':' | '(')) {
            word.clear();
            limited = false;
        }
    }
    out.truncate(out.trim_end().len());
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Skips a value up to its closing quote, which is doubled, or escaped, inside it.
fn skip_quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, quote: char, backslashes: bool, out: &mut String) {
    out.push(MARK);
    while let Some(c) = chars.next() {
        match c {
            '\\' if backslashes => {
                chars.next();
            }
            c if c == quote && chars.next_if_eq(&quote).is_none() => return,
            _ => {}
        }
    }
}

/// Skips a value of PostgreSQL between `$tag$` and `$tag$`.
fn skip_dollar_quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    let mut tag = String::from("$");
    while let Some(c) = chars.next_if(|c| is_word(*c)) {
        tag.push(c);
    }
    if chars.next_if_eq(&'$').is_none() {
        // Not a quote. What follows the sign is a name.
        out.push_str(&tag);
        return;
    }
    tag.push('$');
    out.push(MARK);
    let mut tail = String::new();
    for c in chars.by_ref() {
        tail.push(c);
        if tail.ends_with(&tag) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_replaced_and_names_and_limits_stay() {
        for (language, text, expected) in [
            (Language::Sql, "SELECT 1", "SELECT ?"),
            (
                Language::Sql,
                "SELECT nspname FROM pg_namespace WHERE nspname = 'o''hara' AND a1 > 3.5e7",
                "SELECT nspname FROM pg_namespace WHERE nspname = ? AND a1 > ?",
            ),
            (Language::Sql, "SELECT \"it's 5\".* FROM t LIMIT 20", "SELECT \"it's 5\".* FROM t LIMIT 20"),
            (Language::Sql, "WHERE x = E'a\\'b' OR y = 'c:\\' OR z = 'd'", "WHERE x = E? OR y = ? OR z = ?"),
            (
                Language::Sql,
                "SET LOCAL statement_timeout = 5000;\n  SELECT $q$secret$q$, $1",
                "SET LOCAL statement_timeout = 5000; SELECT ?, $1",
            ),
            (Language::Mysql, "SELECT `a'b`, \"se\\\"cret\", 'x\\'y' FROM t LIMIT 5", "SELECT `a'b`, ?, ? FROM t LIMIT 5"),
            (
                Language::GraphQl,
                "{ users(first: 20, name: \"ada\", age: 36) { id } }",
                "{ users(first: 20, name: ?, age: ?) { id } }",
            ),
            (Language::Sql, "SELECT 'open", "SELECT ?"),
        ] {
            assert_eq!(without_values(text, language), expected);
        }
    }

    proptest! {
        /// A value that is quoted as `connectors::sql::quote` quotes it is never in the record.
        #[test]
        fn no_value_stays(value in "[^\\x00]{1,30}") {
            let secret = format!("s3cr3tvalue{value}");
            let quoted = secret.replace('\'', "''");
            let prefix = if secret.contains('\\') { "E" } else { "" };
            let sql = format!("SELECT * FROM t WHERE a = {prefix}'{}' AND b = 2", quoted.replace('\\', "\\\\"));
            let shown = without_values(&sql, Language::Sql);
            prop_assert!(!shown.contains("s3cr3tvalue"), "{}", shown);
            prop_assert!(shown.ends_with("AND b = ?"), "{}", shown);
        }
    }
}
