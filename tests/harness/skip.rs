//! Tests that a machine cannot run say so by name, and are counted; in CI only named ones may.

use std::io::Write;

/// Names of what may be skipped, separated by commas; set by the CI entry. Unset: everything may be.
pub const PERMITTED: &str = "SKIPS_PERMITTED";
/// A file that gets one line for each skip, so that the runner can count them though the test framework hides output.
pub const LIST: &str = "SKIPS_FILE";

/// Says that `test` did not run for want of `what`.
///
/// # Panics
/// Where skipping is forbidden and `what` is not among the permitted.
pub fn skipped(what: &str, test: &str) {
    if let Ok(permitted) = std::env::var(PERMITTED) {
        assert!(permitted.split(',').any(|name| name == what), "{test} needs {what}, and skipping it is not permitted");
    }
    let line = format!("skipped: {test} (needs {what})\n");
    // Standard error directly: the test framework captures only what goes through its macros.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os(LIST)
        && let Ok(mut list) = std::fs::OpenOptions::new().create(true).append(true).open(path)
    {
        let _ = list.write_all(line.as_bytes());
    }
}
