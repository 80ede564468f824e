//! One file per framing of a serial line: start, length, checksum, resynchronisation.
//!
//! Every framer here is pure: it takes octets however the line splits them, and what it finds depends on the octets only,
//! never on the splits.

pub mod aa55;
pub mod ads1298;
pub mod ansar_b;
pub mod bci;
pub mod berry;
pub mod contec;
pub mod contec_bt;
pub mod framer;
pub mod lepu;
pub mod nonin_3230;
pub mod nonin_df13;
pub mod nonin_df2;
pub mod nonin_df7;
pub mod nonin_df8;
pub mod o2ring;
pub mod pc300;
pub mod pc60fw;
pub mod spirometer_flow;
