//! A port that a test gives up belongs to whoever asks next.

use super::{assert_none, sources};

/// The one function that may return a port that nobody holds.
const MAY_GIVE_UP: &str = "pub fn free_port() -> u16 {";

/// Whether the statement that starts here closes its listener and keeps only the address, or is the last but one of a
/// block whose value is the address.
fn gives_up(text: &str) -> bool {
    let (statement, after) = text.split_once(';').unwrap_or((text, ""));
    // The last expression of a function has no semicolon.
    let statement = statement.split("\n    }").next().unwrap_or_default();
    let next = after.lines().take(3).map(str::trim).collect::<Vec<_>>();
    let is_value = next.len() == 3 && next[1].contains("local_addr()") && !next[1].ends_with(';') && next[2].starts_with('}');
    statement.contains("local_addr()") || is_value || next.get(2).is_some_and(|line| line.starts_with("drop("))
}

#[test]
fn the_tests_of_a_closed_port_hold_it() {
    let bind = concat!("TcpListener::", "bind(\"127.0.0.1:0\")");
    let mut findings = Vec::new();
    for source in sources(&["src", "tests", "crates"]) {
        for (at, _) in source.text.match_indices(bind) {
            let before = source.text[..at].trim_end_matches("std::net::").trim_end();
            if gives_up(&source.text[at..]) && !before.ends_with(MAY_GIVE_UP) {
                findings.push(format!("{}:{}", source.name, before.lines().count()));
            }
        }
    }
    assert_none(&findings, "another test may listen on this port at once; use `closed_port`, which holds it");
}

#[test]
fn a_port_that_is_given_up_is_found() {
    let bind = "TcpListener::bind(\"127.0.0.1:0\").unwrap()";
    assert!(gives_up(&format!("{bind}.local_addr().unwrap().port();")));
    assert!(gives_up(&format!("{bind};\n        format!(\"{{}}\", listener.local_addr().unwrap())\n    }};")));
    assert!(gives_up(&format!("{bind};\n    let port = free.local_addr().unwrap();\n    drop(free);")));
    assert!(!gives_up(&format!("{bind};\n    let port = listener.local_addr().unwrap();\n    tokio::spawn(serve(listener));")));
}
