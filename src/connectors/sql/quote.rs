//! Identifiers and literals inside SQL text.
//!
//! All statements are constants in the code. The only texts inserted into them are names that the database itself reported
//! and the schema of the resource id, and these functions are the only way to insert them.

/// Quotes a PostgreSQL or SQLite identifier with double quotes. Double quotes inside it are doubled.
#[must_use]
pub fn double(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a MySQL or MariaDB identifier with backticks. Backticks inside it are doubled.
#[must_use]
pub fn backtick(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Writes a PostgreSQL string literal that does not depend on `standard_conforming_strings`.
#[must_use]
pub fn literal(text: &str) -> String {
    if text.contains('\\') {
        return format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"));
    }
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quotes_inside_names_are_doubled() {
        assert_eq!(double("a\"b"), "\"a\"\"b\"");
        assert_eq!(backtick("a`b"), "`a``b`");
        assert_eq!(literal("o'hara"), "'o''hara'");
        assert_eq!(literal("a\\'"), "E'a\\\\'''");
    }

    proptest! {
        /// SQLite itself parses the result and finds one identifier, whatever the name is.
        #[test]
        fn any_name_survives_as_one_identifier(name in "[^\\x00]{1,40}") {
            let base = rusqlite::Connection::open_in_memory().map_err(|e| TestCaseError::fail(e.to_string()))?;
            let sql = format!("SELECT 1 AS {}", double(&name));
            let statement = base.prepare(&sql).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(statement.column_name(0).map_err(|e| TestCaseError::fail(e.to_string()))?, name.as_str());
        }
    }
}
