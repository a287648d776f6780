//! Reads where a registry is from a flag or its variable.

use crate::registry::Location;
use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use std::ffi::OsStr;

/// The parser of a location. The usual message about a wrong value repeats the value, and a URL may contain a password.
#[derive(Clone, Copy, Debug)]
pub struct LocationParser;

impl TypedValueParser for LocationParser {
    type Value = Location;

    fn parse_ref(&self, command: &clap::Command, flag: Option<&clap::Arg>, value: &OsStr) -> Result<Location, clap::Error> {
        // A path need not be UTF-8.
        let Some(text) = value.to_str() else { return Ok(Location::file(value)) };
        text.parse().map_err(|why: String| {
            let flag = flag.map(ToString::to_string).unwrap_or_default();
            clap::Error::raw(ErrorKind::ValueValidation, format!("invalid value for '{flag}': {why}\n")).with_cmd(command)
        })
    }
}
