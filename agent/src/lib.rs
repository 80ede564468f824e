//! The telemonitoring gateway: measures, keeps, and delivers each reading exactly once.

pub mod store;
pub mod sync;
