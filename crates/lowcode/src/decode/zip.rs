//! Zip archives. The same parser reads all files of an archive (`zipfile_decoder.py`).

use super::Parser;
use crate::bounds::Bounds;
use crate::error::Failed;
use crate::inflate;
use crate::value::Value;
use std::io::Cursor;
use zip::ZipArchive;

/// Limit for the number of files in one archive.
const MAX_FILES: usize = 1_000;

/// Returns the records of all files in order. All files together must stay within the size limit of one body.
pub(super) fn parse(bytes: &[u8], parser: &Parser, bounds: &Bounds) -> Result<Vec<Value>, Failed> {
    let invalid = |_| traced("Received an invalid zip file in response.");
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(invalid)?;
    if archive.len() > MAX_FILES {
        return Err(Failed::bound("files of an archive", MAX_FILES));
    }
    let mut left = bounds.body_bytes;
    let mut out = Vec::new();
    for index in 0..archive.len() {
        let file = archive.by_index(index).map_err(invalid)?;
        let name = file.name().to_owned();
        let content = inflate::read_all(file, left)?.map_err(|_| traced("Received an invalid zip file in response."))?;
        left = left.saturating_sub(content.len());
        let records = parser.parse(&content, bounds).map_err(|error| match error.class {
            "Bound" => error,
            _ => traced(&format!("Failed to parse file: {name} from zip file.")),
        })?;
        out.extend(records);
    }
    Ok(out)
}

fn traced(message: &str) -> Failed {
    Failed::system("AirbyteTracedException", message)
}
