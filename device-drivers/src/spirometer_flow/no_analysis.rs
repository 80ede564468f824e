//! No figures: this build leaves the feature `derive` out, and gives the curve only.

use kit_protocol::serial::spirometer_flow::Header;

use super::Figures;

/// Nothing is under way.
#[derive(Default)]
pub(super) struct Analysis {}

impl Analysis {
    pub(super) fn under_way(&self) -> bool {
        false
    }

    pub(super) fn manoeuvre(&mut self, _samples: &[i32], _header: &Header) -> Result<Option<Figures>, String> {
        Ok(None)
    }

    pub(super) fn end_of_session(&mut self) -> Option<Figures> {
        None
    }
}
