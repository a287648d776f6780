//! The table that is printed at the end.

/// The rows, in the order in which they were measured.
#[derive(Default)]
pub struct Table {
    rows: Vec<[String; 6]>,
}

impl Table {
    /// Adds a row and logs it at once, because the table is printed at the end.
    pub fn add(
        &mut self,
        figure: impl Into<String>,
        measured: impl Into<String>,
        baseline: impl Into<String>,
        ratio: impl Into<String>,
        aim: &str,
        met: bool,
    ) {
        let verdict = if met { "met" } else { "MISSED" };
        let row = [figure.into(), measured.into(), baseline.into(), ratio.into(), aim.to_string(), verdict.to_string()];
        eprintln!("bench: {}", row.join(" | "));
        self.rows.push(row);
    }

    /// Prints a Markdown table, ready for docs/benchmarks.md.
    pub fn print(&self) {
        let head = ["figure", "measured", "baseline", "ratio", "aim", "verdict"].map(str::to_string);
        let width = |column: usize| {
            std::iter::once(&head)
                .chain(&self.rows)
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        let line = |cells: &[String; 6]| {
            let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            println!("| {} |", padded.join(" | "));
        };
        line(&head);
        println!("|{}|", widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("|"));
        self.rows.iter().for_each(line);
    }
}
