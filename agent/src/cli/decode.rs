//! `decode`: octets of a device to readings, with no service and no device.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use device_drivers::decode::{self, Decoded, Input, Options, Samples};
use device_drivers::driver::Driver;
use device_drivers::registry;
use kit_protocol::decimal::Decimal;
use uuid::Uuid;

use super::{Failure, print};

/// Octets of a device to readings; no service needed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Prints one JSON object a line: {\"reading\":…}, {\"refused\":…}, {\"resync\":…} or {\"measurement\":…}.")]
pub(super) struct Decode {
    /// The driver that would speak to the device; `kit-agent drivers` lists them.
    #[arg(long, value_parser = driver)]
    driver: Option<&'static Driver>,
    /// The characteristic that the octets are of, such as 2a5e; by itself (without --driver) its fields are printed.
    #[arg(long, value_parser = characteristic)]
    characteristic: Option<Uuid>,
    /// Octets in hexadecimal; repeat it for several notifications.
    #[arg(long, required_unless_present_any = ["file", "flow"], conflicts_with = "file", value_parser = octets)]
    hex: Vec<Hex>,
    /// A file of octets, as the device sent them.
    #[arg(long)]
    file: Option<PathBuf>,
    /// A file of flow for spirometer-flow: L/s, one value a line, positive as the patient breathes out.
    #[arg(long, requires = "interval_ms", conflicts_with_all = ["hex", "file"])]
    flow: Option<PathBuf>,
    /// Milliseconds between two values of `--flow`.
    #[arg(long, requires = "flow", value_parser = interval)]
    interval_ms: Option<Duration>,
    /// Samples per second, where the octets do not say.
    #[arg(long)]
    rate: Option<u16>,
    /// What one digit is worth in µV, where the octets do not say.
    #[arg(long)]
    lsb_uv: Option<Decimal>,
    /// One reading of a continuous stream every so many seconds.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: Option<u64>,
    /// The device's model, where a quirk of it is to be known.
    #[arg(long)]
    model: Option<String>,
    /// Where to write the integers of a recording: CSV, a column a lead.
    #[arg(long)]
    samples: Option<PathBuf>,
}

/// Octets of one `--hex`.
#[derive(Clone, Debug)]
struct Hex(Vec<u8>);

fn driver(name: &str) -> Result<&'static Driver, String> {
    let known = || registry::DRIVERS.iter().map(|driver| driver.name).collect::<Vec<_>>().join(", ");
    registry::find(name).ok_or_else(|| format!("expected one of {}", known()))
}

fn characteristic(text: &str) -> Result<Uuid, String> {
    decode::parse_characteristic(text).ok_or_else(|| "expected a UUID, such as 2a5e".into())
}

fn interval(text: &str) -> Result<Duration, String> {
    let expected = || "expected milliseconds, 0.2 to 100, such as 2".to_string();
    let milliseconds: f64 = text.parse().map_err(|_| expected())?;
    let interval = Duration::try_from_secs_f64(milliseconds / 1_000.0).map_err(|_| expected())?;
    let allowed = Duration::from_micros(200)..=Duration::from_millis(100);
    allowed.contains(&interval).then_some(interval).ok_or_else(expected)
}

/// Pairs of hexadecimal digits; blanks, colons and dashes between them are passed over.
fn octets(text: &str) -> Result<Hex, String> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| !matches!(c, ' ' | ':' | '-' | '\n'))
        .map(|c| c.to_digit(16))
        .collect::<Option<_>>()
        .ok_or("expected hexadecimal digits only")?;
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return Err("expected an even number of hexadecimal digits".into());
    }
    let octet = |pair: &[u32]| u8::try_from(pair[0] << 4 | pair[1]).map_err(|_| "expected hexadecimal digits only".to_string());
    digits.chunks_exact(2).map(octet).collect::<Result<_, _>>().map(Hex)
}

impl Decode {
    /// Prints what the octets are.
    pub(super) fn run(self) -> Result<(), Failure> {
        let input = self.input()?;
        let interval = self.interval.map(Duration::from_secs);
        let options = Options { rate_hz: self.rate, lsb_uv: self.lsb_uv, interval, model: self.model.clone() };
        let decoded = decode::decode(self.driver, self.characteristic, &input, &options);
        let Decoded { lines, waves } = decoded.map_err(|error| Failure::WrongUse(error.to_string()))?;
        for line in &lines {
            print::line(&line.to_json())?;
        }
        match &self.samples {
            Some(file) => Ok(write_samples(file, &waves)?),
            None => Ok(()),
        }
    }

    fn input(&self) -> Result<Input, Failure> {
        let unreadable =
            |file: &Path, error: std::io::Error| Failure::WrongUse(format!("{}: cannot be read: {error}", file.display()));
        if let (Some(file), Some(interval)) = (&self.flow, self.interval_ms) {
            let text = std::fs::read_to_string(file).map_err(|error| unreadable(file, error))?;
            return Ok(Input::Flow { text, interval });
        }
        let Some(file) = &self.file else {
            let serial = self.characteristic.is_none() && self.driver.is_some_and(|driver| driver.port().is_some());
            let values: Vec<Vec<u8>> = self.hex.iter().map(|hex| hex.0.clone()).collect();
            return Ok(if serial { Input::Stream(values.concat()) } else { Input::Notifications(values) });
        };
        let octets = std::fs::read(file).map_err(|error| unreadable(file, error))?;
        Ok(Input::Stream(octets))
    }
}

/// A header row with the lead names, the integers below. Recordings of the same leads follow each other in one file; those of
/// other leads go to a file of their own beside it.
fn write_samples(file: &Path, waves: &[Samples]) -> std::io::Result<()> {
    let mut layouts: Vec<&Vec<String>> = Vec::new();
    for wave in waves {
        if !layouts.contains(&&wave.leads) {
            layouts.push(&wave.leads);
        }
    }
    for (number, leads) in layouts.into_iter().enumerate() {
        let path = if number == 0 { file.to_path_buf() } else { file.with_extension(format!("{}.csv", number + 1)) };
        let mut csv = BufWriter::new(std::fs::File::create(path)?);
        writeln!(csv, "{}", leads.join(","))?;
        for wave in waves.iter().filter(|wave| wave.leads == *leads) {
            wave.rows().try_for_each(|row| writeln!(csv, "{row}"))?;
        }
        csv.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_may_be_written_as_people_write_them() {
        assert_eq!(octets("0f AC-f3:be").unwrap().0, [0x0f, 0xac, 0xf3, 0xbe]);
        for wrong in ["", "0", "0g", "0x0f"] {
            assert!(octets(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_interval_is_in_milliseconds_and_within_what_a_spirometer_samples_at() {
        assert_eq!(interval("2"), Ok(Duration::from_millis(2)));
        assert_eq!(interval("2.5"), Ok(Duration::from_micros(2_500)));
        for wrong in ["", "2ms", "0", "-2", "nan", "inf", "1000", "1e300"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn samples_have_a_header_row_and_a_column_a_lead() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("samples.csv");
        let wave = |leads: &[&str], samples: &[i32]| Samples {
            leads: leads.iter().map(ToString::to_string).collect(),
            samples: samples.to_vec(),
        };
        write_samples(&file, &[wave(&["I", "II"], &[1, 2, 3, 4]), wave(&["pleth"], &[9]), wave(&["I", "II"], &[5, 6])]).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "I,II\n1,2\n3,4\n5,6\n");
        assert_eq!(std::fs::read_to_string(folder.path().join("samples.2.csv")).unwrap(), "pleth\n9\n");
    }
}
