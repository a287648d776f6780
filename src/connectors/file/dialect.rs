//! Finds out how a delimited file is written: its delimiter, its quotes, and where its table begins.

use super::format::Format;
use super::header::{self, Header};
use super::rows::{Row, Rows, Splitting, split};
use super::types::ValueKind;

/// The delimiters that are tried. At equal agreement the earlier one is taken.
const CANDIDATES: [u8; 4] = [b',', b';', b'\t', b'|'];
/// Limit on the lines above a table that are taken for titles and comments.
const MAX_TITLE_LINES: usize = 30;

/// What named the delimiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DelimiterSource {
    /// A first line `sep=;`, which Excel reads.
    SepLine,
    /// The extension `.tsv`.
    Extension,
    /// The delimiter that gives most rows the same number of cells.
    Agreement,
    /// No candidate splits the rows, so the table has one column.
    OneColumn,
}

/// The rows of a delimited file and how they are written.
#[derive(Debug)]
pub struct Table {
    pub delimiter: u8,
    pub delimiter_source: DelimiterSource,
    pub quoting: bool,
    pub header: Header,
    /// The row that names the columns, unless `header` is `Absent`.
    pub names: Option<Row>,
    pub data: Vec<Row>,
    /// The number of cells of most rows.
    pub width: usize,
    /// The number of title and comment lines above the table.
    pub titles: usize,
    /// Whether the bytes end inside the only row, so that more bytes are needed.
    pub cut: bool,
}

/// Splits `text`, which is UTF-8 without a byte order mark, into at most `max_rows` rows of a table. If the text is not
/// the `whole` file, an incomplete last row is left out.
#[must_use]
pub fn analyze(text: &[u8], whole: bool, format: Format, max_rows: usize, max_cells: usize) -> Table {
    let max_rows = max_rows.saturating_add(MAX_TITLE_LINES);
    if let Some((delimiter, rest)) = sep_line(text) {
        let rows = split(rest, whole, Splitting { delimiter, quoting: true, max_rows, max_cells });
        return Layout::new(&rows.rows).table(rows, delimiter, true, DelimiterSource::SepLine);
    }
    let tabs = format == Format::Tsv && text.contains(&b'\t');
    let mut best: Option<(f64, Rows, Layout, u8, bool)> = None;
    let candidates = CANDIDATES.into_iter().filter(|candidate| if tabs { *candidate == b'\t' } else { text.contains(candidate) });
    for delimiter in candidates {
        // The registered form of TSV has no quotes (https://www.iana.org/assignments/media-types/text/tab-separated-values),
        // but Excel writes them, so both readings are compared.
        let quotings: &[bool] = if delimiter == b'\t' { &[true, false] } else { &[true] };
        for quoting in quotings {
            let rows = split(text, whole, Splitting { delimiter, quoting: *quoting, max_rows, max_cells });
            let layout = Layout::new(&rows.rows);
            let score = layout.score(&rows.rows, delimiter);
            if layout.width > 1 && best.as_ref().is_none_or(|(highest, ..)| score > *highest) {
                best = Some((score, rows, layout, delimiter, *quoting));
            }
        }
    }
    match best {
        Some((_, rows, layout, delimiter, quoting)) => {
            let source = if tabs { DelimiterSource::Extension } else { DelimiterSource::Agreement };
            layout.table(rows, delimiter, quoting, source)
        }
        None => {
            let delimiter = if format == Format::Tsv { b'\t' } else { b',' };
            let rows = split(text, whole, Splitting { delimiter, quoting: true, max_rows, max_cells });
            Layout::new(&rows.rows).table(rows, delimiter, true, DelimiterSource::OneColumn)
        }
    }
}

/// The delimiter that a first line `sep=;` names, and the text below it.
fn sep_line(text: &[u8]) -> Option<(u8, &[u8])> {
    let end = text.iter().position(|byte| matches!(byte, b'\n' | b'\r'))?;
    let (line, rest) = text.split_at_checked(end)?;
    let line = line.trim_ascii_start();
    let line = line.strip_prefix(b"\"").and_then(|line| line.trim_ascii_end().strip_suffix(b"\"")).unwrap_or(line);
    let (key, value) = line.split_at_checked(4)?;
    let delimiter = match value {
        b"\\t" => b'\t',
        [one] if one.is_ascii() && !one.is_ascii_alphanumeric() && *one != b'"' => *one,
        _ => return None,
    };
    key.eq_ignore_ascii_case(b"sep=").then_some((delimiter, rest))
}

/// Where the table begins and how wide it is.
struct Layout {
    /// The number of rows above the table.
    titles: usize,
    width: usize,
    /// The share of the rows of the table that have its width.
    agreement: f64,
}

impl Layout {
    fn new(rows: &[Row]) -> Layout {
        let width = most_frequent_width(rows);
        let candidates = rows.len().saturating_sub(1).min(MAX_TITLE_LINES);
        let titles = (0..candidates).take_while(|index| is_title(rows, *index, width)).count();
        let header = (titles + 1..=candidates).rev().find(|at| is_header_below_titles(rows, *at, width));
        let titles = header.unwrap_or(titles);
        let table = rows.get(titles..).unwrap_or_default();
        let agreeing = table.iter().filter(|row| row.width == width).count();
        Layout { titles, width, agreement: agreeing as f64 / table.len().max(1) as f64 }
    }

    /// How well this reading explains the text: rows of equal width above all, then cells with a type, then many columns.
    fn score(&self, rows: &[Row], delimiter: u8) -> f64 {
        let data = rows.get(self.titles + 1..).unwrap_or_default();
        let (mut typed, mut filled, mut spaced) = (0usize, 0usize, 0usize);
        for cell in data.iter().flat_map(|row| &row.cells) {
            let text = cell.trim();
            filled += usize::from(!text.is_empty());
            typed += usize::from(!text.is_empty() && (ValueKind::from_text(text) != ValueKind::Text || is_decimal_comma(text)));
        }
        let table = rows.get(self.titles..).unwrap_or_default();
        let cells = table.iter().map(|row| row.cells.len()).sum::<usize>().max(1);
        if delimiter == b',' {
            // A comma with a space after it is often punctuation.
            spaced = table.iter().flat_map(|row| row.cells.iter().skip(1)).filter(|cell| cell.starts_with(' ')).count();
        }
        // In TSV, a quote is more often a character than the beginning of a cell of several lines.
        let merged = |row: &Row| delimiter == b'\t' && row.multiline;
        let open = table.iter().filter(|row| row.open_quote || has_stray_quote(row) || merged(row)).count();
        let share = |part: usize, of: usize| part as f64 / of.max(1) as f64;
        self.agreement * (1.0 + share(typed, filled)) * (1.0 + 0.1 * (self.width as f64).log2())
            - 0.1 * share(spaced, cells)
            - share(open, table.len())
    }

    fn table(self, rows: Rows, delimiter: u8, quoting: bool, delimiter_source: DelimiterSource) -> Table {
        let mut above = rows.rows;
        let mut data = above.split_off(self.titles.min(above.len()));
        let header = data.first().map_or(Header::Absent, |first| header::judge(first, data.get(1..).unwrap_or_default()));
        let mut names = None;
        let mut titles = above.len();
        match (header, above.pop()) {
            (Header::Absent, Some(mut last)) if last.width == self.width && last.cell(0).starts_with('#') => {
                // A comment line right above the data names the columns: `# time,value`.
                if let Some(cell) = last.cells.first_mut() {
                    *cell = cell.trim_start_matches(['#', ' ']).to_owned();
                }
                titles -= 1;
                names = Some(last);
            }
            (Header::Absent, _) => {}
            _ => names = (!data.is_empty()).then(|| data.remove(0)),
        }
        let header = if names.is_some() && header == Header::Absent { Header::Guessed } else { header };
        Table { delimiter, delimiter_source, quoting, header, names, data, width: self.width, titles, cut: rows.cut }
    }
}

/// Whether a quote remains at one edge of a cell, which a reader with other quoting rules would have removed.
fn has_stray_quote(row: &Row) -> bool {
    row.cells.iter().any(|cell| cell.len() > 1 && cell.starts_with('"') && cell.ends_with('"'))
}

/// The width of most rows; the larger one if two occur equally often.
fn most_frequent_width(rows: &[Row]) -> usize {
    let mut counts = std::collections::BTreeMap::new();
    for row in rows {
        *counts.entry(row.width).or_insert(0usize) += 1;
    }
    // A title line and a header are as frequent as each other, but only the header is wide.
    counts.into_iter().max_by_key(|(width, count)| (*count, *width)).map_or(0, |(width, _)| width)
}

/// Whether the row at `index` is a title or a comment above the table.
fn is_title(rows: &[Row], index: usize, width: usize) -> bool {
    let (Some(row), Some(next)) = (rows.get(index), rows.get(index + 1)) else { return false };
    if is_comment(row) && (row.width != width || has_comment_space(row) || next.cell(0).starts_with('#')) {
        return true;
    }
    if width < 2 {
        return false;
    }
    // A spreadsheet writes a title as a row of the table's width whose other cells are empty.
    let names = |row: &Row| {
        row.filled() > 1 && row.cells.iter().all(|cell| matches!(ValueKind::from_text(cell), ValueKind::Text | ValueKind::Empty))
    };
    row.width == 1 || (row.filled() <= 1 && rows.get(index + 1..).unwrap_or_default().iter().take(MAX_TITLE_LINES).any(names))
}

/// Whether the row begins with the sign of a comment.
fn is_comment(row: &Row) -> bool {
    ["#", "//", "-- "].iter().any(|sign| row.cell(0).starts_with(sign))
}

/// Whether a space follows the sign of a comment, as it does in a sentence. `#id` may be the name of a column.
fn has_comment_space(row: &Row) -> bool {
    ["# ", "// ", "-- "].iter().any(|sign| row.cell(0).starts_with(sign))
}

/// Whether the row at `index` looks like a header, and every row above it like a title. The delimiter may occur in a title,
/// as in `Acme, Inc.`, and a spreadsheet pads titles with empty cells to the width of the table.
fn is_header_below_titles(rows: &[Row], index: usize, width: usize) -> bool {
    let (Some(header), Some(above)) = (rows.get(index), rows.get(..index)) else { return false };
    if width < 2 || header.width != width || !has_names(header) {
        return false;
    }
    // A text above a column of numbers is a name. This is evaluated only if it decides, because it reads all rows.
    let below = rows.get(index + 1..).unwrap_or_default();
    let typed = std::cell::LazyCell::new(|| header::names_typed_column(header, below));
    above.iter().enumerate().all(|(position, row)| {
        if row.width == 1 || row.filled() == 0 || is_comment(row) && row.width != width || has_comment_space(row) {
            return true;
        }
        let is_sentence = has_punctuation(row) && !has_punctuation(header);
        if row.width != width {
            // A header without the names of the last columns is as wide as the filled cells below it.
            return is_sentence || (row.width != last_filled(header) && *typed);
        }
        let is_padded = row.filled() < header.filled();
        let is_sparse = is_padded && row.filled() * 2 <= width;
        is_sparse || ((is_sentence || is_padded && (position > 0 || !has_names(row))) && *typed)
    })
}

/// Whether most cells of a row are filled, with texts or years, as names of columns are.
fn has_names(row: &Row) -> bool {
    let is_name = |cell: &String| matches!(ValueKind::from_text(cell), ValueKind::Text | ValueKind::Empty);
    let years = row.cells.iter().filter(|cell| header::is_year(cell.trim())).count();
    row.filled() > 1
        && row.filled() * 2 > row.width
        && row.filled() > years
        && row.cells.iter().all(|cell| is_name(cell) || header::is_year(cell.trim()))
}

/// Whether a row reads like a sentence: a space follows the delimiter, or a colon is followed by a space.
fn has_punctuation(row: &Row) -> bool {
    let spaced = row.cells.iter().skip(1).any(|cell| cell.starts_with(' ') && !cell.trim().is_empty());
    spaced || row.cells.iter().any(|cell| cell.contains(": "))
}

/// The number of cells up to the last one that is filled.
fn last_filled(row: &Row) -> usize {
    row.cells.iter().rposition(|cell| !cell.trim().is_empty()).map_or(0, |index| index + 1)
}

/// Whether the text is a number with a decimal comma, such as `1.234,50`.
#[must_use]
pub fn is_decimal_comma(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    text.split_once(',').is_some_and(|(whole, decimals)| {
        digits(decimals)
            && digits(whole.split('.').next().unwrap_or_default())
            && whole.split('.').skip(1).all(|group| group.len() == 3 && digits(group))
    })
}
