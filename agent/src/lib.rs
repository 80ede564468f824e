//! The telemonitoring gateway: measures, keeps, and delivers each reading exactly once.
pub mod acquisition {
    pub mod recorder;
    pub mod roster;
}
pub mod clock;
pub mod config;
pub mod identity;
pub mod store;
