//! Tests that a machine cannot run say so by name, and are counted; in CI only named ones may.

use std::io::Write;

/// Names of what may be skipped, separated by commas; set by the CI entry. Unset: everything may be.
pub const PERMITTED: &str = "SKIPS_PERMITTED";

/// Says that `test` did not run for want of `what`, in the line that `tests/run` counts.
///
/// # Panics
/// Where skipping is forbidden and `what` is not among the permitted.
pub fn skipped(what: &str, test: &str) {
    if let Ok(permitted) = std::env::var(PERMITTED) {
        assert!(permitted.split(',').any(|name| name == what), "{test} needs {what}, and skipping it is not permitted");
    }
    // Standard error itself: the test framework would keep what goes through its macros to itself.
    let _ = writeln!(std::io::stderr(), "skipped: {test} (needs {what})");
}
