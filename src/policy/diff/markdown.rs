//! The changes as Markdown, for the comment of a pull request. Everything that comes from the policy is literal: it can be
//! neither a link, nor a mention, nor markup.

use super::change::{Change, Effect, Verdict};
use crate::model::text::counted;
use std::fmt::Write;

/// The maximum length in bytes. GitHub accepts comments of 65,536 characters.
const MAX_BYTES: usize = 60_000;

/// Returns a comment that begins with a line by which a workflow can find it again. `note` is a sentence below the title.
#[must_use]
pub fn markdown(changes: &[Change], note: Option<&str>) -> String {
    let mut out = String::from("<!-- aam policy diff -->\n");
    let title = match Verdict::over(changes) {
        Verdict::None => "### Policy: no changes",
        Verdict::Narrower => "### Policy: changes, none of them wider",
        Verdict::Wider => "### Policy: wider",
    };
    let _ = writeln!(out, "{title}");
    if let Some(note) = note {
        let _ = writeln!(out, "\n{}", literal(note));
    }
    for (effect, title) in [
        (Effect::Wider, "Wider: AAM or a caller may do more"),
        (Effect::Narrower, "Narrower"),
        (Effect::Neutral, "Other changes and what follows from them"),
    ] {
        let lines: Vec<&Change> = changes.iter().filter(|change| change.effect == effect).collect();
        if lines.is_empty() {
            continue;
        }
        let _ = writeln!(out, "\n**{title}** ({})\n", lines.len());
        for (at, change) in lines.iter().enumerate() {
            let line = format!("- {}\n", literal(&change.text));
            if out.len() + line.len() > MAX_BYTES {
                let _ = writeln!(out, "- and {} more; `aam policy diff` lists them", counted(lines.len() - at, "change"));
                return out;
            }
            out.push_str(&line);
        }
    }
    out
}

/// Writes each word that could have a meaning in Markdown as code.
fn literal(text: &str) -> String {
    text.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

fn word(word: &str) -> String {
    let core = word.trim_end_matches([',', ';', ':', '.']);
    let end = word.get(core.len()..).unwrap_or_default();
    // A word that only brackets surround is plain, for example (wider).
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '\'' | '(' | ')' | '%' | '/' | ',');
    let has_letter = core.chars().any(char::is_alphanumeric);
    let is_link = core.to_lowercase().starts_with("www");
    let starts_list = core.starts_with(['-', '+']) || core.chars().all(|c| c.is_ascii_digit()) && !end.is_empty();
    if core.is_empty() || (core.chars().all(plain) && has_letter && !is_link && !starts_list) {
        return word.to_string();
    }
    format!("{}{end}", code(core))
}

/// Returns a code span. Its fence is longer than each run of backticks in `text`, as CommonMark 6.1 demands. Characters that
/// are not visible are written as escapes.
fn code(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        match c {
            ' '..='~' => shown.push(c),
            c if c.is_alphanumeric() => shown.push(c),
            c => shown.extend(c.escape_unicode()),
        }
    }
    let longest = shown.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(longest + 1);
    let pad = if shown.starts_with('`') || shown.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{shown}{pad}{fence}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(effect: Effect, text: &str) -> Change {
        Change { effect, key: "x".to_string(), text: text.to_string() }
    }

    #[test]
    fn what_comes_from_the_policy_has_no_meaning_in_markdown() {
        for (text, expected) in [
            ("slack added to the allowlist; affects 0 connections", "slack added to the allowlist; affects 0 connections"),
            ("max_risk changes from med to high (wider)", "`max_risk` changes from med to high (wider)"),
            ("because @acme/admins said", "because `@acme/admins` said"),
            ("see #12, https://evil.example/x.", "see `#12`, `https://evil.example/x`."),
            ("[click](https://evil.example)", "`[click](https://evil.example)`"),
            ("<img src=x onerror=y>", "`<img` `src=x` `onerror=y>`"),
            ("a `b` ``c", "a `` `b` `` ``` ``c ```"),
            ("**bold** _em_ ~~x~~ | y", "`**bold**` `_em_` `~~x~~` `|` y"),
            ("line\n# heading", "line `#` heading"),
            ("www.evil.example", "`www.evil.example`"),
            ("1. one", "`1`. one"),
            ("a\u{202e}b\u{200b}", "`a\\u{202e}b\\u{200b}`"),
            ("team@acme.example:", "`team@acme.example`:"),
        ] {
            assert_eq!(literal(text), expected, "{text}");
        }
    }

    #[test]
    fn a_comment_is_bounded_and_groups_the_changes() {
        let few = [change(Effect::Neutral, "n"), change(Effect::Wider, "w (wider)"), change(Effect::Narrower, "o")];
        let text = markdown(&few, Some("no registry"));
        assert_eq!(
            text,
            "<!-- aam policy diff -->\n### Policy: wider\n\nno registry\n\n**Wider: AAM or a caller may do more** (1)\n\n- w (wider)\n\n**Narrower** (1)\n\n- o\n\n**Other changes and what follows from them** (1)\n\n- n\n"
        );
        assert!(markdown(&[], None).ends_with("### Policy: no changes\n"));
        let many: Vec<Change> = (0..2000).map(|n| change(Effect::Wider, &format!("{n} {}", "x ".repeat(50)))).collect();
        let text = markdown(&many, None);
        assert!(text.len() < MAX_BYTES + 200 && text.contains(" more; `aam policy diff` lists them"), "{}", text.len());
    }
}
