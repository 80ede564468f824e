//! One file per framing of a serial line: start, length, checksum, resynchronisation.
//!
//! Every framer here is pure: it takes octets however the line splits them, and what it finds depends on the octets only,
//! never on the splits.

pub mod ads1298;
pub mod framer;
pub mod lepu;
pub mod nonin_df2;
