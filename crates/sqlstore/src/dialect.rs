//! What differs between the texts of the statements of both databases.

/// A part of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Where names, numbers, operators and parameters are.
    Code,
    /// A comment, a text or a quoted name, from its first character to its last.
    Quoted,
}

/// The parts of `sql`, which follow each other without gaps.
fn parts(sql: &str) -> Vec<(Part, &str)> {
    let bytes = sql.as_bytes();
    let (mut parts, mut start, mut at) = (Vec::new(), 0, 0);
    while at < bytes.len() {
        let Some(end) = quoted_end(sql, at) else {
            at += 1;
            continue;
        };
        let (code, quoted) = (sql.get(start..at).unwrap_or_default(), sql.get(at..end).unwrap_or_default());
        parts.extend([(Part::Code, code), (Part::Quoted, quoted)]);
        (start, at) = (end, end);
    }
    parts.push((Part::Code, sql.get(start..).unwrap_or_default()));
    parts
}

/// The end of the comment, text or quoted name that begins at `at`, or `None` if none begins there.
fn quoted_end(sql: &str, at: usize) -> Option<usize> {
    let rest = sql.get(at..)?;
    let length =
        |marker: &str, from: usize| rest.get(from..).and_then(|tail| tail.find(marker)).map(|found| from + found + marker.len());
    let end = match rest.as_bytes().first()? {
        // A doubled quote inside is read as two texts without a gap, which is the same here.
        b'\'' => length("'", 1),
        b'"' => length("\"", 1),
        b'-' if rest.starts_with("--") => length("\n", 2),
        b'/' if rest.starts_with("/*") => return Some(at + comment_length(rest)),
        b'$' => {
            let tag = rest.get(1..)?.find('$').map(|end| end + 2)?;
            let name = rest.get(1..tag - 1)?;
            if name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
                return None;
            }
            length(rest.get(..tag)?, tag)
        }
        _ => return None,
    };
    Some(end.map_or(sql.len(), |length| at + length))
}

/// The length of a comment, which can contain others.
fn comment_length(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = text.as_bytes().get(at..).unwrap_or_default();
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth = depth.saturating_sub(1);
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// A hint of SQLite to read the table itself and not an index. PostgreSQL does not have it.
const NOT_INDEXED: &str = " NOT INDEXED";

/// Writes the parameters `?1` and `?` as `$1`, …. As in SQLite, `?` is the parameter after the largest one so far. Leaves out
/// `NOT INDEXED`.
pub(crate) fn for_postgres(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len() + 8);
    let mut largest = 0_usize;
    for (part, text) in parts(sql) {
        if part == Part::Quoted {
            out.push_str(text);
            continue;
        }
        let text = text.replace(NOT_INDEXED, "");
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once('?') {
            let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let number = after.get(..digits).and_then(|text| text.parse().ok()).unwrap_or(largest + 1);
            largest = largest.max(number);
            out.push_str(before);
            out.push('$');
            out.push_str(&number.to_string());
            rest = after.get(digits..).unwrap_or_default();
        }
        out.push_str(rest);
    }
    out
}

/// The names and keywords of `sql` in lower case, in order.
fn names(sql: &str) -> Vec<String> {
    let code = parts(sql).into_iter().filter(|(part, _)| *part == Part::Code);
    code.flat_map(|(_, text)| text.split(|c: char| !c.is_alphanumeric() && c != '_'))
        .filter(|name| !name.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// Whether the statement only reads rows, so that a read-only transaction may run it.
pub(crate) fn only_reads(sql: &str) -> bool {
    let names = names(sql);
    let first = names.first().map(String::as_str).unwrap_or_default();
    let writes = ["insert", "update", "delete", "merge", "share", "nextval", "setval"];
    matches!(first, "select" | "with" | "values" | "table") && !names.iter().any(|name| writes.contains(&name.as_str()))
}

/// Whether the statements change tables, so that statements which were prepared before may have become invalid.
pub(crate) fn changes_schema(sql: &str) -> bool {
    names(sql).iter().any(|name| matches!(name.as_str(), "create" | "alter" | "drop" | "search_path" | "discard" | "deallocate"))
}

/// Quotes a name, for example of a schema.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_translated_outside_of_quotes() {
        let cases = [
            ("SELECT ?1, ?2", "SELECT $1, $2"),
            ("a = ? AND b = ? AND c = ?1", "a = $1 AND b = $2 AND c = $1"),
            ("a = ?3 AND b = ?", "a = $3 AND b = $4"),
            ("a = '?1' AND b = ?1", "a = '?1' AND b = $1"),
            ("a = 'it''s ?' AND b = ?", "a = 'it''s ?' AND b = $1"),
            ("\"a?\" = ? -- why?\nAND b = ?", "\"a?\" = $1 -- why?\nAND b = $2"),
            ("/* ? /* ? */ ? */ ?", "/* ? /* ? */ ? */ $1"),
            ("$$ ? $$ || ?", "$$ ? $$ || $1"),
            ("$a_1$ ? $$ ? $a_1$ || ?", "$a_1$ ? $$ ? $a_1$ || $1"),
            ("$1 || ?2 || $3", "$1 || $2 || $3"),
            ("'ö?' || ?12 || 'never closed ?", "'ö?' || $12 || 'never closed ?"),
            ("-- only ?", "-- only ?"),
            ("SELECT a FROM t NOT INDEXED WHERE b = ' NOT INDEXED'", "SELECT a FROM t WHERE b = ' NOT INDEXED'"),
            ("? /* open ?", "$1 /* open ?"),
        ];
        for (sql, expected) in cases {
            assert_eq!(for_postgres(sql), expected);
        }
    }

    #[test]
    fn statements_that_write_are_found() {
        assert!(only_reads("SELECT 'update' FROM t -- delete"));
        assert!(only_reads("  /* why */ with a as (select 1) select * from a"));
        assert!(!only_reads("with a as (delete from t returning *) select * from a"));
        assert!(!only_reads("SELECT * FROM t FOR SHARE"));
        assert!(!only_reads("SELECT nextval('s')"));
        assert!(!only_reads("insert into t values (1) returning a"));
        assert!(!only_reads(""));
        assert!(changes_schema("CREATE TABLE t (a INT)") && !changes_schema("SELECT 'create'"));
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
