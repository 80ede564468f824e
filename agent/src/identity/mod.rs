//! Who the kit is: its keys, the centre's keys, and the assignment it carries.

pub mod assignment;
pub mod keys;
pub mod origin;
pub mod secret;
