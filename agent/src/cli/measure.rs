//! `measure DEVICE`: opens a measurement window and waits for its reading.

use std::io::Write;
use std::time::Duration;

use super::listing::{READING_HEADER, row};
use super::{AgentPlace, Failure, print};
use crate::acquisition::roster::{DeviceView, Phase};
use crate::acquisition::window::{ReadingAt, SECONDS, Stage, WindowView};
use crate::api::client::Client;
use crate::api::readings::{Page, PageLine};
use crate::api::server::WindowQuery;
use crate::api::status::Status;

/// The agent is asked so often how the window stands.
const LOOK: Duration = Duration::from_millis(500);
/// The time left is told so often, seconds.
const TELL_S: u64 = 10;

/// Open a measurement window: what a scale that only advertises weighs in it is the patient's.
#[derive(Debug, clap::Args)]
pub(super) struct Measure {
    /// The device's identity, as `kit-agent devices` shows it.
    device: String,
    /// For how long it may be measured: 60s, 2m.
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = seconds)]
    span: u32,
    /// The reading as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: AgentPlace,
}

/// A span of time on the command line, to seconds.
fn seconds(text: &str) -> Result<u32, String> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let seconds = number.parse::<u32>().ok().and_then(|number| number.checked_mul(unit));
    let wanted = || format!("expected {} to {} seconds, such as 60s or 2m", SECONDS.start(), SECONDS.end());
    seconds.filter(|seconds| SECONDS.contains(seconds)).ok_or_else(wanted)
}

impl Measure {
    /// Carries it out.
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = self.agent.client()?;
        let devices: Vec<DeviceView> = client.get("/devices").await?;
        if !devices.iter().any(|device| device.identity == self.device) {
            let known = devices.iter().map(|device| device.identity.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Failure::WrongUse(format!("{}: no such device; expected one of {known}", self.device)));
        }
        let status: Status = client.get("/status").await?;
        self.ask(&client, "/window", self.span).await?;
        match &status.assignment {
            Some(id) => self.tell(&format!("Measure now: for {} s what {} shows is of assignment {id}.", self.span, self.device)),
            None => self.tell(&format!("Measure now, for {} s. No assignment is active: it is kept as unassigned.", self.span)),
        }
        tokio::select! {
            outcome = self.wait(&client) => outcome,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                let view = self.ask(&client, "/window/close", 0).await?;
                match view.reading {
                    Some(reading) => self.show(&client, &reading).await,
                    None => Err(Failure::Failed("the window is closed; nothing was measured in it".into())),
                }
            }
        }
    }

    /// Until the window has its reading or is over.
    async fn wait(&self, client: &Client) -> Result<(), Failure> {
        let (mut heard, mut refused, mut told) = (false, 0, u64::from(self.span));
        loop {
            tokio::time::sleep(LOOK).await;
            let view = self.ask(client, "/window/look", 0).await?;
            let devices: Vec<DeviceView> = client.get("/devices").await?;
            let there = devices.iter().any(|device| device.identity == self.device && device.phase == Phase::Connected);
            if there && !std::mem::replace(&mut heard, true) {
                self.tell("The device is heard.");
            }
            if view.refused > refused {
                refused = view.refused;
                self.tell("A measurement was refused as implausible: measure again.");
            }
            match view.stage {
                Stage::Measured => match &view.reading {
                    Some(reading) => return self.show(client, reading).await,
                    None => return Err(Failure::Failed("the reading is stored: `kit-agent readings` shows it".into())),
                },
                Stage::Ended => return Err(Failure::Failed(self.in_vain(heard, refused))),
                Stage::Open if view.left_s + TELL_S <= told => {
                    told = view.left_s;
                    self.tell(&format!("… {told} s left"));
                }
                Stage::Open | Stage::Ending => {}
            }
        }
    }

    /// Why there is no reading, and what to do.
    fn in_vain(&self, heard: bool, refused: u64) -> String {
        let again = format!("`kit-agent measure {}`", self.device);
        match (heard, refused) {
            (_, 1..) => format!("what was measured is implausible; check the device, then {again} and measure once more"),
            (true, 0) => {
                format!(
                    "no measurement was seen from beginning to end; wait until the display is dark, then {again}, and measure"
                )
            }
            (false, 0) => format!("the device was not heard; bring it nearer, check its batteries and address, then {again}"),
        }
    }

    async fn show(&self, client: &Client, reading: &ReadingAt) -> Result<(), Failure> {
        let path = format!("/readings?epoch={}&lane=vitals&from={}&samples=false", reading.epoch, reading.seq);
        let page: Page = client.get(&path).await?;
        let Some(line) = page.lines.first() else {
            return Err(Failure::Failed("the reading is stored; `kit-agent readings` shows it".into()));
        };
        if self.json {
            return Ok(print::line(&line.line)?);
        }
        Ok(print::table(&READING_HEADER, vec![row(&PageLine::fields(line))], "")?)
    }

    async fn ask(&self, client: &Client, path: &str, seconds: u32) -> Result<WindowView, Failure> {
        let query = WindowQuery { device: self.device.clone(), seconds };
        Ok(client.post(path, serde_json::to_vec(&query)?).await?)
    }

    /// What goes on, on standard error: what is measured stands alone on standard output.
    fn tell(&self, what: &str) {
        // Where nobody reads it, nobody misses it.
        let _ = writeln!(std::io::stderr(), "{what}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_seconds_or_minutes_within_bounds() {
        assert_eq!((seconds("60s"), seconds("2m"), seconds("45")), (Ok(60), Ok(120), Ok(45)));
        for wrong in ["", "s", "4s", "11m", "1h", "-5s", "99999999999m"] {
            assert!(seconds(wrong).unwrap_err().contains("such as 60s or 2m"), "{wrong}");
        }
    }
}
