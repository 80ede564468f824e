//! A flow over time, as a person has it in a file, to the figures that `spirometer-flow` computes of such a flow.

use std::time::Duration;

use uuid::Uuid;

use super::{Decoded, WrongUse};
use crate::driver::Driver;
use crate::spirometer_flow;

/// One reading for each manoeuvre and, where there are several, one more for the session.
pub(super) fn decode(
    driver: Option<&Driver>,
    characteristic: Option<Uuid>,
    text: &str,
    interval: Duration,
) -> Result<Decoded, WrongUse> {
    match (driver, characteristic) {
        (Some(driver), None) if driver.name == spirometer_flow::DRIVER.name => engine::decode(text, interval),
        _ => Err(WrongUse::NoFlow),
    }
}

#[cfg(not(feature = "derive"))]
mod engine {
    use super::{Decoded, Duration, WrongUse};

    pub(super) fn decode(_text: &str, _interval: Duration) -> Result<Decoded, WrongUse> {
        Err(WrongUse::NoEngine)
    }
}

#[cfg(feature = "derive")]
mod engine {
    use kit_protocol::json::{Line, ReadingLine};
    use kit_protocol::moment::Moment;
    use kit_protocol::plausibility::{self, Refusal, StatedBy};
    use kit_protocol::reading::{Kind, Measured, Status, Value};

    use super::super::refused;
    use super::{Decoded, Duration, WrongUse, spirometer_flow};
    use crate::derive::spirometry::{SAMPLES_MAX, Session, Signal, Subject, manoeuvre_reading, manoeuvres, session_reading};

    pub(super) fn decode(text: &str, interval: Duration) -> Result<Decoded, WrongUse> {
        let lines = match flow(text).and_then(|flow| readings(&flow, interval)) {
            Ok(readings) => readings.into_iter().map(|(values, status)| line(values, status, text)).collect(),
            Err(why) => vec![refused("undecodable", why, text.as_bytes().get(..REFUSED_OCTETS_MAX).unwrap_or(text.as_bytes()))],
        };
        Ok(Decoded { lines, waves: Vec::new() })
    }

    /// Values and statuses of a reading.
    type Figures = (Vec<Value>, Vec<Status>);

    /// So much of a file is shown where it is refused.
    const REFUSED_OCTETS_MAX: usize = 64;

    /// One number a line; empty lines are passed over.
    fn flow(text: &str) -> Result<Vec<f64>, String> {
        let lines = text.lines().enumerate().map(|(at, line)| (at, line.trim())).filter(|(_, line)| !line.is_empty());
        lines
            .take(SAMPLES_MAX + 1)
            .map(|(at, line)| line.parse().map_err(|_| format!("flow: line {} is no number of L/s", at + 1)))
            .collect()
    }

    fn readings(flow: &[f64], interval: Duration) -> Result<Vec<Figures>, String> {
        let signal = Signal::from_flow(flow, interval.as_secs_f64()).map_err(|error| format!("flow: {error}"))?;
        let mut session = Session::new(Subject::default());
        let mut readings: Vec<_> =
            manoeuvres(&signal).into_iter().map_while(|manoeuvre| session.add(manoeuvre).map(manoeuvre_reading)).collect();
        match readings.len() {
            0 => return Err("flow: no forced expiration in it".into()),
            1 => {}
            _ => readings.extend(session_reading(&session.summary())),
        }
        Ok(readings)
    }

    fn line(mut values: Vec<Value>, status: Vec<Status>, text: &str) -> Line {
        match plausibility::accept(&mut values, &status, StatedBy::Device) {
            Ok(()) => {
                let measured = Measured { values, status, ..Measured::new(Kind::Spirometry, Moment::ZERO) };
                Line::Reading(Box::new(ReadingLine::measured(spirometer_flow::DRIVER.name, None, &measured)))
            }
            Err(Refusal { class, detail }) => {
                refused(class, detail, text.as_bytes().get(..REFUSED_OCTETS_MAX).unwrap_or(text.as_bytes()))
            }
        }
    }
}
