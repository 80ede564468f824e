//! `resend`: what was acknowledged and is missing is asked for again.

use std::io::Write;

use clap::Args;
use kit_protocol::uplink::id::KitId;
use serde::Serialize;

use super::{CliError, Place, open, print};
use crate::store::Store;

/// Whose.
#[derive(Debug, Args)]
pub(super) struct Resend {
    /// The kit.
    kit: KitId,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line {
    epoch: String,
    lane: &'static str,
    first: u64,
    last: u64,
}

impl Resend {
    pub(super) fn ask(&self, place: &Place, output: &mut dyn Write) -> Result<(), CliError> {
        let database = place.database()?;
        if !open(&database)?.kits()?.iter().any(|kit| kit.kit == self.kit) {
            return Err(CliError::Usage(format!("{} was not heard of yet: `kit-centre kits` lists those that were", self.kit)));
        }
        let mut store = Store::open(&database)?;
        let mut transaction = store.begin()?;
        let missing = transaction.take_back_missing(&self.kit)?;
        transaction.commit()?;
        for it in &missing {
            let line = Line { epoch: it.epoch.to_string(), lane: it.lane.name(), first: it.first, last: it.last };
            if self.json {
                print::json(output, &line)?;
            } else {
                writeln!(output, "{}/{} {} to {}: asked for again", line.epoch, line.lane, line.first, line.last)?;
            }
        }
        if !self.json && missing.is_empty() {
            writeln!(output, "{}: nothing is missing of what was acknowledged", self.kit)?;
        }
        if !self.json && !missing.is_empty() {
            writeln!(
                output,
                "The service asks within a minute, or when the kit connects. `kit-centre gaps` shows what is awaited."
            )?;
        }
        Ok(())
    }
}
