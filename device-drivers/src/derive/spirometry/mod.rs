//! Forced spirometry: from a flow or a volume over time to FVC, FEV1 and the rest, with their quality.
//!
//! Source: Graham et al., "Standardization of Spirometry 2019 Update", Am J Respir Crit Care Med 2019;200:e70–e88 (ATS/ERS
//! 2019): back-extrapolation through peak flow, the end of forced expiration, acceptability and usability (its table 7),
//! repeatability, grades (its table 10).
//!
//! ```text
//! Signal ──manoeuvres()──▶ Manoeuvre (figures, faults) ──Session::add()──▶ judged one by one ──summary()──▶ best, grades
//! ```
//!
//! Not determinable from one flow signal, and never stated: a leak, an obstructed mouthpiece, a submaximal effort, percent of
//! predicted. FEV0.75 of children is not computed.

mod detect;
mod grade;
mod manoeuvre;
mod report;
mod session;
mod signal;

pub use grade::Grade;
pub use manoeuvre::{Fault, Manoeuvre, manoeuvres};
pub use report::{manoeuvre_reading, session_reading};
pub use session::{Best, Judged, MANOEUVRES_MAX, Session, Subject, Summary, Verdict};
pub use signal::{INTERVAL_SECONDS_MAX, INTERVAL_SECONDS_MIN, SAMPLES_MAX, Signal, SignalError};

#[cfg(test)]
mod tests;
