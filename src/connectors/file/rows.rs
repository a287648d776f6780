//! Splits delimited text into rows.
//!
//! The reader keeps at most a fixed number of cells of a row and the beginning of a cell, so a header of many megabytes
//! takes little memory. It also knows whether a quote was left open, which a reader of complete rows cannot report.

/// Limit on the bytes that are kept of a cell. The name of a column keeps 200 characters, a type needs fewer.
pub const MAX_CELL_BYTES: usize = 800;
/// Limit on how often a quote that is left open is taken literally in one text.
const MAX_OPEN_QUOTES: usize = 20;
/// In a text whose end is not known, a quoted cell with more lines than this is a quote that was left open.
const MAX_QUOTED_LINES: usize = 100;

/// One row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The first cells of the row, each with the beginning of its text.
    pub cells: Vec<String>,
    /// The number of cells, including those that are not in `cells`.
    pub width: usize,
    /// Whether a quoted cell has a line end in it.
    pub multiline: bool,
    pub has_nul: bool,
    /// Whether a quote is left open in this row. Its quotes are then taken literally.
    pub open_quote: bool,
}

impl Row {
    /// The text of the cell at `index`; empty if the row does not have it.
    #[must_use]
    pub fn cell(&self, index: usize) -> &str {
        self.cells.get(index).map_or("", |cell| cell.trim())
    }

    /// The number of cells that are not empty.
    #[must_use]
    pub fn filled(&self) -> usize {
        self.cells.iter().filter(|cell| !cell.trim().is_empty()).count()
    }
}

/// How a text is split.
#[derive(Clone, Copy, Debug)]
pub struct Splitting {
    pub delimiter: u8,
    /// Whether `"` encloses cells.
    pub quoting: bool,
    /// Limit on the rows.
    pub max_rows: usize,
    /// Limit on the cells that are kept of each row.
    pub max_cells: usize,
}

/// The first rows of a text.
#[derive(Debug, Default)]
pub struct Rows {
    pub rows: Vec<Row>,
    /// Whether the bytes end inside the only row, so that more bytes are needed.
    pub cut: bool,
    /// Whether the text has more rows than the limit.
    pub more: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CellState {
    Start,
    Plain,
    Quoted,
    /// After a quote inside a quoted cell, which ends the cell unless another quote follows.
    Closing,
}

/// Splits UTF-8 `text`. If the text is not the `whole` file, its last row may be incomplete and is left out.
#[must_use]
pub fn split(text: &[u8], whole: bool, splitting: Splitting) -> Rows {
    let mut found = Rows::default();
    let (mut at, mut open_quotes) = (0, 0);
    let mut last_width = 0;
    // One row more than requested: the extra row proves that the rows before it are complete.
    while found.rows.len() <= splitting.max_rows {
        let Some(mut read) = row(text, at, splitting) else { break };
        let ended = read.terminated || whole;
        let is_open = read.row.open_quote && (whole || read.lines > MAX_QUOTED_LINES);
        let is_merged = read.row.multiline && last_width > 1 && (read.malformed || read.row.width != last_width);
        if (is_open || is_merged) && open_quotes < MAX_OPEN_QUOTES {
            let literal = literal_line(text, at, splitting);
            if let Some(literal) = literal.filter(|line| is_open || line.row.width == last_width) {
                open_quotes += 1;
                read = literal;
            }
        } else if !ended {
            found.cut = found.rows.is_empty();
            if !found.cut {
                return found;
            }
        }
        at = read.next;
        // Empty lines are not rows.
        if read.row.width == 1 && read.row.cells.first().is_none_or(String::is_empty) && !read.quoted {
            continue;
        }
        last_width = read.row.width;
        found.rows.push(read.row);
    }
    found.more = found.rows.len() > splitting.max_rows;
    found.rows.truncate(splitting.max_rows);
    found
}

struct ReadRow {
    row: Row,
    /// Where the next row begins.
    next: usize,
    /// Whether a line end follows the row.
    terminated: bool,
    /// The number of line ends inside quotes.
    lines: usize,
    /// Whether any cell is quoted.
    quoted: bool,
    /// Whether text follows the closing quote of a cell.
    malformed: bool,
}

/// The line at `at` with its quotes taken literally.
fn literal_line(text: &[u8], at: usize, splitting: Splitting) -> Option<ReadRow> {
    let mut read = row(text, at, Splitting { quoting: false, ..splitting })?;
    read.row.open_quote = true;
    for cell in &mut read.row.cells {
        if let Some(rest) = cell.strip_prefix('"') {
            *cell = rest.strip_suffix('"').unwrap_or(rest).to_owned();
        }
    }
    Some(read)
}

/// Reads the row that begins at `at`. Line ends are LF, CRLF and CR alone.
fn row(text: &[u8], at: usize, splitting: Splitting) -> Option<ReadRow> {
    let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
    let mut read =
        ReadRow { row: Row::default(), next: text.len(), terminated: false, lines: 0, quoted: false, malformed: false };
    let mut cell: Vec<u8> = Vec::new();
    let mut state = CellState::Start;
    let push = |byte: u8, cell: &mut Vec<u8>| {
        if cell.len() < MAX_CELL_BYTES {
            cell.push(byte);
        }
    };
    for (offset, byte) in rest.iter().enumerate() {
        read.row.has_nul |= *byte == 0;
        state = match (state, *byte) {
            (CellState::Start, b'"') if splitting.quoting => {
                read.quoted = true;
                CellState::Quoted
            }
            (CellState::Quoted, b'"') => CellState::Closing,
            (CellState::Closing, b'"') => {
                push(b'"', &mut cell);
                CellState::Quoted
            }
            (CellState::Quoted, other) => {
                if other == b'\n' {
                    read.row.multiline = true;
                    read.lines += 1;
                }
                push(other, &mut cell);
                CellState::Quoted
            }
            (_, delimiter) if delimiter == splitting.delimiter => {
                finish(&mut read.row, &mut cell, splitting);
                CellState::Start
            }
            (_, end @ (b'\n' | b'\r')) => {
                let crlf = end == b'\r' && rest.get(offset + 1) == Some(&b'\n');
                read.next = at + offset + 1 + usize::from(crlf);
                read.terminated = true;
                finish(&mut read.row, &mut cell, splitting);
                return Some(read);
            }
            (state, other) => {
                read.malformed |= state == CellState::Closing;
                push(other, &mut cell);
                CellState::Plain
            }
        };
    }
    read.row.open_quote = state == CellState::Quoted;
    finish(&mut read.row, &mut cell, splitting);
    Some(read)
}

fn finish(row: &mut Row, cell: &mut Vec<u8>, splitting: Splitting) {
    row.width += 1;
    if row.cells.len() < splitting.max_cells {
        // The limit may have cut the last character.
        let valid = std::str::from_utf8(cell).map_or_else(|error| error.valid_up_to(), str::len);
        row.cells.push(String::from_utf8_lossy(cell.get(..valid).unwrap_or_default()).into_owned());
    }
    cell.clear();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COMMA: Splitting = Splitting { delimiter: b',', quoting: true, max_rows: 100, max_cells: 10 };

    fn cells(text: &str) -> Vec<Vec<String>> {
        split(text.as_bytes(), true, COMMA).rows.into_iter().map(|row| row.cells).collect()
    }

    #[test]
    fn quotes_and_line_ends() {
        let expected = [vec!["id", "full, name"], vec!["1", "A \"B\"\nC"], vec!["2", ""]];
        for end in ["\n", "\r\n", "\r"] {
            let text = ["id,\"full, name\"", "1,\"A \"\"B\"\"\nC\"", "", "2,", ""].join(end);
            assert_eq!(cells(&text), expected, "{end:?}");
        }
        assert_eq!(cells("\"\"\n5\" disk,x"), [vec![""], vec!["5\" disk", "x"]]);
    }

    #[test]
    fn an_open_quote_takes_only_its_line() {
        assert_eq!(cells("id,desc\n1,\"unclosed\n2,b\n3,c\n"), [["id", "desc"], ["1", "unclosed"], ["2", "b"], ["3", "c"]]);
        // The next quoted cell would close the quote in the middle of another row.
        assert_eq!(cells("id,desc\n1,\"unclosed\n2,\"b\"\n3,c\n"), [["id", "desc"], ["1", "unclosed"], ["2", "b"], ["3", "c"]]);
        let rows = split(b"id,\"desc\n1,a\n2,b\n", true, COMMA).rows;
        assert_eq!((rows.len(), rows[0].open_quote, rows[1].open_quote), (3, true, false));
        let long: String = (0..500).map(|n| format!("{n},x\n")).collect();
        let found = split(format!("id,desc\n0,\"open\n{long}").as_bytes(), false, COMMA);
        assert_eq!((found.rows.len(), found.more), (100, true));
    }

    #[test]
    fn half_a_row_is_not_a_row() {
        for (text, rows, cut) in
            [("a,b\n1,2\n3,", 2, false), ("a,b,c", 1, true), ("a,b\n1,\"x\ny", 1, false), ("\"a\nb", 1, true)]
        {
            let found = split(text.as_bytes(), false, COMMA);
            assert_eq!((found.rows.len(), found.cut), (rows, cut), "{text:?}");
        }
        let two = Splitting { max_rows: 2, ..COMMA };
        let found = split(b"a,b\n1,2\n3,4\n5,6\n", false, two);
        assert_eq!((found.rows.len(), found.cut, found.more), (2, false, true));
    }

    #[test]
    fn wide_rows_and_long_cells_keep_their_beginning() {
        let text = format!("{}{}\n", "a,".repeat(1_000_000), "x".repeat(1_000_000));
        let row = split(text.as_bytes(), true, COMMA).rows.remove(0);
        assert_eq!((row.width, row.cells.len()), (1_000_001, 10));
        let row = split("ü".repeat(1000).as_bytes(), true, COMMA).rows.remove(0);
        assert_eq!(row.cells[0].chars().count(), MAX_CELL_BYTES / 2);
    }

    proptest! {
        #[test]
        fn a_written_table_is_read_back(cells in proptest::collection::vec(proptest::collection::vec("[a-z\",;\n ]{1,6}", 3), 1..8)) {
            let mut writer = csv::Writer::from_writer(Vec::new());
            cells.iter().for_each(|row| writer.write_record(row).unwrap());
            let bytes = writer.into_inner().unwrap();
            let read: Vec<Vec<String>> = split(&bytes, true, COMMA).rows.into_iter().map(|row| row.cells).collect();
            prop_assert_eq!(read, cells);
        }

        #[test]
        fn any_bytes_end(bytes: Vec<u8>, whole: bool, quoting: bool, max_rows in 0usize..5) {
            let found = split(&bytes, whole, Splitting { quoting, max_rows, ..COMMA });
            prop_assert!(found.rows.len() <= max_rows);
        }
    }
}
