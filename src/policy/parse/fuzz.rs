//! Checks that no text makes `parse` panic.

use super::parse;
use super::tests::DESIGN;
use proptest::prelude::*;

/// Texts from pieces of YAML, which get further into the parser than random characters do.
fn pieces() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(vec![
        "version",
        "allowlist",
        "caps",
        "families",
        "slack",
        "api",
        "tokens",
        "network",
        ": ",
        ":",
        "\n",
        "  ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "1",
        "20s",
        "0.5",
        "\"",
        "'",
        "&a ",
        "*a",
        "<<",
        "!!str ",
        "|\n",
        ">-\n ",
        "? ",
        "#",
        "---\n",
        "...\n",
        "%YAML 1.2\n",
        "\t",
        "\r\n",
        "é",
        "\u{feff}",
        "\u{85}",
        "~",
        "10.0.0.0/8",
        "per_second",
        "-",
        "\\",
        "\\u12",
        "\0",
    ]);
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = parse(&text, "f");
    }

    #[test]
    fn arbitrary_yaml_like_text_never_panics(text in pieces()) {
        if let Err(problems) = parse(&text, "f") {
            prop_assert!(!problems.is_empty());
            prop_assert!(problems.iter().all(|problem| problem.file == "f" && problem.place.is_some_and(|place| place.line > 0 && place.column > 0)));
        }
    }

    #[test]
    fn a_damaged_policy_never_panics(at in 0usize..1600, cut in 0usize..40, insert in "[ -~\\n]{0,4}") {
        let chars: Vec<char> = DESIGN.chars().collect();
        let at = at.min(chars.len());
        let damaged: String = chars[..at].iter().chain(insert.chars().collect::<Vec<_>>().iter()).chain(&chars[(at + cut).min(chars.len())..]).collect();
        let _ = parse(&damaged, "f");
    }
}
