use std::fs::File;
use std::io::Read;

use kit_protocol::serial::ads1298::{Found, Framer};
use kit_protocol::serial::nonin_df2;

use super::*;

struct Bench {
    _directory: tempfile::TempDir,
    port: PathBuf,
    truth: PathBuf,
    runner: Runner,
    at: Duration,
}

/// A device on its line, in virtual time.
fn bench(name: &str, scenario: &str) -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let (port, truth) = (directory.path().join("port"), directory.path().join("truth"));
    let spec = spec(name, &port, &truth, scenario);
    let device = devices::find(name).unwrap();
    let Connection::Serial(make) = device.connection else { panic!("{name}") };
    let runner = Runner::new(device, make(spec.seed, &spec.scenario), &spec, port.clone(), open(&port).unwrap());
    Bench { _directory: directory, port, truth, runner, at: Duration::ZERO }
}

fn spec(name: &str, port: &Path, truth: &Path, scenario: &str) -> DeviceSpec {
    DeviceSpec {
        name: name.to_owned(),
        attachment: Attachment::Pty(port.to_owned()),
        seed: 5,
        scenario: Scenario::parse(scenario).unwrap(),
        truth: Truth::to(truth).unwrap(),
    }
}

fn reader(port: &Path) -> File {
    use std::os::unix::fs::OpenOptionsExt;
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap();
    File::options().read(true).write(true).custom_flags(nonblocking).open(port).unwrap()
}

impl Bench {
    /// Lives on for so long; whoever reads does so after each step.
    fn live(&mut self, seconds: f64, mut reader: Option<&mut File>) -> Vec<u8> {
        let mut got = Vec::new();
        let until = self.at + Duration::from_secs_f64(seconds);
        while self.at < until {
            self.at += STEP;
            self.runner.step(self.at, Moment::from_nanos(1_000_000_000) + self.at).unwrap();
            if let Some(reader) = &mut reader {
                drain(reader, &mut got);
            }
        }
        got
    }

    /// Rows of the truth with their number and whether they were delivered.
    fn rows(&mut self) -> Vec<(Option<u64>, bool, Vec<i64>)> {
        self.runner.streams.iter_mut().for_each(|stream| stream.flush().unwrap());
        let mut rows = Vec::new();
        for line in std::fs::read_to_string(&self.truth).unwrap().lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let samples = &value["samples"];
            let first = samples["first_counter"].as_u64();
            for (row, index) in samples["rows"].as_array().unwrap().iter().zip(0..) {
                let values = row.as_array().unwrap().iter().map(|value| value.as_i64().unwrap()).collect();
                rows.push((first.map(|first| first + index), samples["delivered"].as_bool().unwrap(), values));
            }
        }
        rows
    }
}

fn drain(reader: &mut File, got: &mut Vec<u8>) {
    let mut part = [0; 4096];
    // What was written is handed over by a kernel worker: some silence means there is nothing more.
    loop {
        match reader.read(&mut part) {
            Ok(count) if count > 0 => got.extend_from_slice(&part[..count]),
            _ => {
                let mut waiting = [rustix::event::PollFd::new(&*reader, rustix::event::PollFlags::IN)];
                let wait = rustix::event::Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
                if rustix::event::poll(&mut waiting, Some(&wait)).unwrap_or(0) == 0 {
                    return;
                }
            }
        }
    }
}

fn ecg_rows(octets: &[u8]) -> Vec<(Option<u64>, Vec<i64>)> {
    let mut rows = Vec::new();
    let mut framer = Framer::default();
    let mut take = |found| {
        if let Found::Data(frame) = found {
            rows.push((Some(frame.counter.into()), frame.sample.channels.map(i64::from).to_vec()));
        }
    };
    framer.push(octets, &mut take);
    framer.finish(&mut take);
    rows
}

fn delivered(rows: &[(Option<u64>, bool, Vec<i64>)]) -> Vec<(Option<u64>, Vec<i64>)> {
    rows.iter().filter(|(_, delivered, _)| *delivered).map(|(counter, _, values)| (*counter, values.clone())).collect()
}

#[test]
fn truth_is_what_a_reader_gets_and_every_row_that_was_made() {
    let mut bench = bench("ecg-ads1298", "");
    let mut reader = reader(&bench.port);
    let got = bench.live(4.0, Some(&mut reader));
    let rows = bench.rows();
    assert!(rows.len() > 1_900);
    assert!(rows.iter().zip(0..).all(|((counter, ..), expected)| *counter == Some(expected)));
    assert_eq!(ecg_rows(&got), delivered(&rows));
    assert!(rows.iter().all(|(_, delivered, _)| *delivered));
}

#[test]
fn what_is_sent_while_nobody_listens_is_made_and_not_delivered() {
    let mut bench = bench("ecg-ads1298", "");
    bench.live(1.0, None);
    let mut first = reader(&bench.port);
    let mut got = bench.live(1.0, Some(&mut first));
    bench.live(3.0, None); // the reader hangs, and the kernel's buffer overflows
    drop(first);
    bench.live(1.0, None);
    let mut second = reader(&bench.port);
    got.extend(bench.live(1.0, Some(&mut second)));
    let rows = bench.rows();
    assert!(rows.iter().zip(0..).all(|((counter, ..), expected)| *counter == Some(expected)), "every number is there once");
    let truth = delivered(&rows);
    let read = ecg_rows(&got);
    assert!(read.iter().all(|row| truth.contains(row)));
    let lost = rows.iter().filter(|(_, delivered, _)| !delivered).count();
    assert!((1_500..3_000).contains(&lost), "a second before, a second after and some of the three: {lost}");
    assert!((900..1_100).contains(&read.len()), "{}", read.len());
}

#[test]
fn faulted_frames_are_in_the_truth_as_not_delivered() {
    let scenario = "at=1 fault=drop\nat=1.5 fault=corrupt for=0.1\nat=2 fault=split\nat=2.5 fault=duplicate";
    let mut bench = bench("ecg-ads1298", scenario);
    let mut reader = reader(&bench.port);
    let got = bench.live(4.0, Some(&mut reader));
    let rows = bench.rows();
    let lost = rows.iter().filter(|(_, delivered, _)| !delivered).count();
    assert!((45..=57).contains(&lost), "{lost}");
    let mut read = ecg_rows(&got);
    let before = read.len();
    read.dedup();
    assert_eq!(before - read.len(), 1, "one frame came twice");
    assert_eq!(read, delivered(&rows));
}

#[test]
fn an_unplugged_line_is_gone_and_comes_back_at_its_path() {
    let mut bench = bench("oximeter-nonin", "at=2 fault=disconnect for=1");
    let mut first = reader(&bench.port);
    let before = bench.live(1.99, Some(&mut first));
    assert!(before.len() > 700);
    bench.live(0.5, None);
    assert!(!bench.port.exists());
    bench.live(1.0, None);
    let mut second = reader(&bench.port);
    let after = bench.live(1.0, Some(&mut second));
    assert!(after.len() > 350);
    let frames = |octets: &[u8]| octets.len() / nonin_df2::Frame::OCTETS;
    assert_eq!(delivered(&bench.rows()).len(), frames(&before) + frames(&after));
}

#[test]
fn a_reading_is_measured_when_it_is_sent_and_one_of_the_memory_as_long_before_as_it_waited() {
    let mut bench = bench("oximeter-nonin-df13", "");
    let mut reader = reader(&bench.port);
    bench.live(20.0, Some(&mut reader));
    let text = std::fs::read_to_string(&bench.truth).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let times = |line: &serde_json::Value| (line["boottime_ns"].as_u64().unwrap(), line["measured_ns"].as_u64().unwrap());
    let (stored, live) = lines.split_at(3);
    // The bench's clock began a second before the device.
    assert!(stored.iter().map(times).all(|(sent, measured)| sent > 0 && measured == 0), "{stored:?}");
    assert!(!live.is_empty() && live.iter().map(times).all(|(sent, measured)| sent == measured && sent > 10_000_000_000));
}

#[test]
fn a_device_runs_by_itself_until_it_is_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let (port, truth) = (directory.path().join("port"), directory.path().join("truth"));
    let handle = spawn(spec("oximeter-nonin", &port, &truth, "")).unwrap();
    let mut reader = File::open(&port).unwrap();
    let mut got = [0; 300];
    reader.read_exact(&mut got).unwrap();
    assert!(!handle.is_finished());
    handle.stop().unwrap();
    assert!(!port.exists());
    let text = std::fs::read_to_string(&truth).unwrap();
    assert!(text.ends_with('\n') && text.contains("\"kind\":\"pleth\""));
}

#[test]
fn a_device_is_refused_on_a_link_it_does_not_have() {
    let directory = tempfile::tempdir().unwrap();
    let (port, truth) = (directory.path().join("port"), directory.path().join("truth"));
    let refused = |name: &str, attachment: Attachment| {
        let spec = DeviceSpec { attachment, ..spec(name, &port, &truth, "") };
        spawn(spec).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(refused("ecg", Attachment::Pty(port.clone())).contains("kit-sim list"));
    assert!(refused("pulse-oximeter", Attachment::Pty(port.clone())).contains("--bus"));
    assert!(refused("oximeter-nonin", Attachment::Bus(port.clone())).contains("--pty"));
    assert!(refused("oximeter-nonin", Attachment::Pty(directory.path().join("no/port"))).contains("no/port"));
    assert!(refused("pulse-oximeter", Attachment::Bus(directory.path().join("no/socket"))).contains("no/socket"));
}

#[test]
fn ble_devices_share_a_bus_that_goes_with_them() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, truth) = (directory.path().join("bus"), directory.path().join("truth"));
    let specs: Vec<DeviceSpec> = (1..=3).map(|seed| DeviceSpec { seed, ..spec("pulse-oximeter", &socket, &truth, "") }).collect();
    let handle = spawn_on_bus(&socket, specs).unwrap();
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());
    handle.stop().unwrap();
    assert!(!socket.exists());
    let wrong = spawn_on_bus(&socket, vec![spec("ecg-ads1298", &socket, &truth, "")]).err().unwrap();
    assert!(wrong.to_string().contains("--pty"), "{wrong}");
}
