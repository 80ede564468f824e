//! Codes of what is measured: MDC, with LOINC and UCUM beside them, as one data table.

/// A code of IEEE 11073-10101 in its 32-bit form: partition × 65536 + term. One newer than we are is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mdc(pub u32);
