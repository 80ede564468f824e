//! The command line of the demonstration.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::broker::Kind;
use crate::plant::devices::{self, Simulated};

/// The whole kit on this machine: broker, centre, simulated devices and agent. The network is cut, the agent is killed, and the
/// ledger at the end says whether every sample arrived exactly once.
#[derive(Clone, Debug, Parser)]
#[command(name = "demo", version, after_help = "Exit code: 0 nothing is missing, double or wrong; 1 something is; 2 wrong use.")]
pub struct Options {
    /// How long the devices measure.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(10..=86_400))]
    pub seconds: u32,
    /// Decides what the devices measure; equal seeds measure the same.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How often the network is cut, each time for 10 s or a sixth of its share of the time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub cuts: u32,
    /// How often the agent is killed with SIGKILL and started again a second later.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub kills: u32,
    /// Which MQTT broker; mosquitto must be installed.
    #[arg(long, value_enum, default_value_t = BrokerChoice::Embedded)]
    pub broker: BrokerChoice,
    /// Which devices, separated by commas, or `all`.
    #[arg(long = "devices", value_name = "DEVICES", value_delimiter = ',', value_parser = choice, default_values_t = usual())]
    choices: Vec<Choice>,
    /// The devices chosen, each once.
    #[arg(skip)]
    pub devices: Vec<Simulated>,
    /// Leaves everything in this directory: `kit` is the agent's state, `centre` the centre's.
    #[arg(long)]
    pub keep: Option<PathBuf>,
    /// Prints nothing but the ledger, as one JSON object; progress goes to standard error.
    #[arg(long)]
    pub json: bool,
}

/// Devices on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    One(Simulated),
    All,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(device) => device.fmt(f),
            Self::All => f.write_str("all"),
        }
    }
}

/// A broker's name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BrokerChoice {
    /// rumqttd, inside this program.
    Embedded,
    /// A real mosquitto 2.
    Mosquitto,
}

impl Options {
    /// Parses a command line, the program's name first.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut options = Self::try_parse_from(arguments)?;
        for choice in &options.choices {
            let chosen: Vec<Simulated> = match choice {
                Choice::One(device) => vec![*device],
                Choice::All => devices::all().collect(),
            };
            for device in chosen {
                if !options.devices.contains(&device) {
                    options.devices.push(device);
                }
            }
        }
        Ok(options)
    }

    /// How long the devices measure.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }

    /// Which broker.
    #[must_use]
    pub fn broker(&self) -> Kind {
        match self.broker {
            BrokerChoice::Embedded => Kind::Embedded,
            BrokerChoice::Mosquitto => Kind::Mosquitto,
        }
    }
}

fn usual() -> Vec<Choice> {
    devices::usual().map(Choice::One).collect()
}

fn choice(name: &str) -> Result<Choice, String> {
    if name == "all" {
        return Ok(Choice::All);
    }
    devices::find(name).map(Choice::One).ok_or_else(|| {
        let names: Vec<&str> = devices::all().map(Simulated::name).collect();
        format!("expected all, or one of {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, clap::Error> {
        Options::parse(std::iter::once("demo").chain(line.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn a_bare_command_line_is_one_minute_with_one_cut_and_one_kill() {
        let options = parse("").unwrap();
        assert_eq!((options.seconds, options.cuts, options.kills, options.broker()), (60, 1, 1, Kind::Embedded));
        assert!(options.devices.iter().copied().eq(devices::usual()));
        assert!(!options.json && options.keep.is_none());
    }

    #[test]
    fn a_device_named_twice_is_one_device() {
        let devices = parse("--devices oximeter-nonin,oximeter-nonin").unwrap().devices;
        assert_eq!(devices, [devices::find("oximeter-nonin").unwrap()]);
        assert!(parse("--devices thermometer,all").unwrap().devices.len() == devices::all().count());
    }

    #[test]
    fn wrong_use_is_told_with_what_was_expected() {
        for line in ["--seconds 1", "--devices toaster", "--broker kafka", "--cuts -1", "extra"] {
            let error = parse(line).unwrap_err();
            assert!(error.use_stderr(), "{line}");
        }
        assert!(parse("--devices toaster").unwrap_err().to_string().contains("ecg-ads1298"));
    }
}
