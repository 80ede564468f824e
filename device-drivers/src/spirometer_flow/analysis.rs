//! Figures of manoeuvres and sessions, by the engine.

use kit_protocol::serial::spirometer_flow::Header;

use super::Figures;
use crate::derive::spirometry::{self, Manoeuvre, Session, Signal, Subject};

/// The session under way.
#[derive(Default)]
pub(super) struct Analysis(Option<Session>);

impl Analysis {
    /// Whether manoeuvres wait for their session's end.
    pub(super) fn under_way(&self) -> bool {
        self.0.is_some()
    }

    /// The figures of a manoeuvre: of the forced expiration in it, should there be several of the largest.
    pub(super) fn manoeuvre(&mut self, samples: &[i32], header: &Header) -> Result<Option<Figures>, String> {
        // The figures are computed of what the samples mean; the samples themselves stay as they are.
        let scale = header.scale().to_f64();
        let flow: Vec<f64> = samples.iter().map(|sample| f64::from(*sample) * scale).collect();
        let interval = f64::from(header.interval_us) / 1.0e6;
        let signal = Signal::from_flow(&flow, interval).map_err(|error| error.to_string())?;
        let largest = |a: &Manoeuvre, b: &Manoeuvre| a.fvc.total_cmp(&b.fvc);
        let manoeuvre = spirometry::manoeuvres(&signal).into_iter().max_by(largest).ok_or("no forced expiration in it")?;
        let session = self.0.get_or_insert_with(|| Session::new(Subject::default()));
        let judged = session.add(manoeuvre).ok_or("too many manoeuvres in one session")?;
        Ok(Some(spirometry::manoeuvre_reading(judged)))
    }

    /// The session's best values and grades; `None` where there are none.
    pub(super) fn end_of_session(&mut self) -> Option<Figures> {
        self.0.take().and_then(|session| spirometry::session_reading(&session.summary()))
    }
}
