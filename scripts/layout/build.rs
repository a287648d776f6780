//! Puts the code that `aam lowcode` runs into one place of the released binary.
//!
//! The command lives for milliseconds, and most of its memory is pages of code: the system maps sixteen of
//! them around each one that is touched. Spread over the whole binary its 2,500 functions touch two thirds
//! of it; side by side they are less than 3 MB. `functions` lists them by their mangled names, without the hash of
//! their crates, so that the list outlives a change of versions; a name that is gone is skipped, a new function lies
//! where it would have lain anyway. The names must be exact, or every instance of a generic function comes along:
//! `.cargo/config.toml` asks for them. `scripts/layout/record.py` makes the list anew.
//!
//! Relative relocations are packed for the same reason: the loader reads a few kilobytes in place of one megabyte.
//! Segments begin at whole windows of sixteen pages, so that where the system puts the binary changes nothing.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=scripts/layout/functions");
    println!("cargo:rerun-if-changed=scripts/layout/build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    // There, and only there, the toolchain brings the linker that this was measured with.
    let known = is("CARGO_CFG_TARGET_ARCH", "x86_64") && is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    let Some(folder) = env::var_os("OUT_DIR").map(PathBuf::from).filter(|_| known && is("PROFILE", "release")) else {
        return;
    };
    let Ok(functions) = fs::read_to_string("scripts/layout/functions") else {
        println!("cargo:warning=scripts/layout/functions cannot be read: aam lowcode will use more memory");
        return;
    };
    // Rarely taken paths stand in `.text.unlikely.NAME`.
    let sections: String = functions.lines().map(|name| format!("    *(.text*.{name})\n")).collect();
    let script = format!("SECTIONS\n{{\n  .text.lowcode :\n  {{\n{sections}  }}\n}}\nINSERT BEFORE .text;\n");
    let path = folder.join("layout.ld");
    if let Err(error) = fs::write(&path, script) {
        println!("cargo:warning={} cannot be written ({error}): aam lowcode will use more memory", path.display());
        return;
    }
    println!("cargo:rustc-link-arg-bins=-Wl,-T,{}", path.display());
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    println!("cargo:rustc-link-arg-bins=-Wl,-z,max-page-size=65536");
}
