//! `status`, `queue`, `devices`, `drivers`, `readings`.

use device_drivers::driver::{Allowed, Effect, Endpoint, Link, Quirk, Security};
use device_drivers::registry::DRIVERS;
use kit_protocol::nomenclature::Mdc;
use serde::Serialize;

use super::print::{self, age, octets};
use super::{AgentPlace, Asked, Failure};
use crate::acquisition::roster::{DeviceView, Phase};
use crate::api::client::Client;
use crate::api::readings::{Page, PageLine};
use crate::api::status::{QueueLine, Status};

/// The kit at a glance.
pub(super) async fn status(asked: Asked) -> Result<(), Failure> {
    let status: Status = asked.agent.client()?.get("/status").await?;
    if asked.json {
        return Ok(print::json(&[status])?);
    }
    for text in sentences(&status) {
        print::line(&text)?;
    }
    Ok(device_table(&status.devices)?)
}

/// What a nurse or a technician wants to know, in their words.
fn sentences(status: &Status) -> Vec<String> {
    let link = &status.link;
    let arriving = match (link.connected, link.settled, &link.refusal) {
        (true, true, _) => {
            format!("Data is arriving at the centre (last acknowledged {}).", age(link.last_acknowledgement_age_s))
        }
        (true, false, _) => "Connected to the broker; the centre has not answered yet. Nothing is lost.".into(),
        (false, _, Some(why)) => format!("Not connected: {why}. Readings are kept here and sent later."),
        (false, _, None) => format!("Not connected to {}; trying again. Readings are kept here and sent later.", link.broker),
    };
    let arriving = match &link.paused {
        Some(why) if link.connected => format!(
            "The centre does not believe what this kit sends ({why}). Readings are kept here and tried again: report it to the \
             service centre."
        ),
        _ => arriving,
    };
    let opening = status.store_trouble.as_deref() == Some("opening");
    let assignment = match &status.assignment {
        Some(id) => format!("Assignment {id}."),
        None if opening => "The store is still being opened: ask again in a moment which assignment is active.".into(),
        None => "No assignment: readings are kept and sent as unassigned.".into(),
    };
    let mut sentences = vec![
        format!(
            "{} ({}), version {}, up {} min, clock {}.",
            status.kit,
            status.tenant,
            status.version,
            status.up_s / 60,
            status.clock
        ),
        assignment,
        arriving,
        format!("{} records wait to be sent.", status.waiting),
    ];
    if status.quarantined > 0 {
        sentences.push(format!("{} records are held back for a technician: kit-agent queue shows where.", status.quarantined));
    }
    sentences.extend(link.troubles.iter().map(|trouble| format!("For the technician: {trouble}.")));
    sentences.extend(status.store_trouble.as_ref().map(|trouble| format!("The disk: {trouble}.")));
    sentences
}

fn device_table(devices: &[DeviceView]) -> std::io::Result<()> {
    let row = |device: &DeviceView| {
        let phase = match device.phase {
            Phase::Waiting => "waiting for it",
            Phase::Connecting => "connecting",
            Phase::Connected => "connected",
            Phase::Paused => "paused",
        };
        vec![
            device.identity.clone(),
            device.driver.clone(),
            phase.into(),
            age(device.last_reading_age_s),
            device.readings.to_string(),
            device.segments.to_string(),
            device.refused.to_string(),
            device.not_the_patient.to_string(),
            device.trouble.clone().unwrap_or_default(),
        ]
    };
    let header = ["device", "driver", "state", "last stored", "readings", "segments", "refused", "not the patient's", "to do"];
    print::table(&header, devices.iter().map(row).collect(), "No devices are configured: add a [[device]] to the configuration.")
}

/// The devices and how they are.
pub(super) async fn devices(asked: Asked) -> Result<(), Failure> {
    let devices: Vec<DeviceView> = asked.agent.client()?.get("/devices").await?;
    let printed = if asked.json { print::json(&devices) } else { device_table(&devices) };
    Ok(printed?)
}

/// What waits for the centre.
pub(super) async fn queue(asked: Asked) -> Result<(), Failure> {
    let lines: Vec<QueueLine> = asked.agent.client()?.get("/queue").await?;
    if asked.json {
        return Ok(print::json(&lines)?);
    }
    let row = |line: &QueueLine| {
        vec![
            line.epoch.chars().take(8).collect(),
            line.assignment.clone().unwrap_or_else(|| "none".into()),
            line.lane.clone(),
            line.waiting.to_string(),
            octets(line.octets),
            line.oldest.to_string(),
            line.next.to_string(),
            line.acknowledged.to_string(),
            line.quarantined.to_string(),
        ]
    };
    let header = ["epoch", "assignment", "lane", "waiting", "octets", "oldest", "next", "acknowledged", "held back"];
    Ok(print::table(&header, lines.iter().map(row).collect(), "Nothing was ever stored here.")?)
}

/// A row of the driver table.
#[derive(Debug, Serialize)]
struct DriverLine {
    driver: &'static str,
    version: &'static str,
    links: Vec<LinkLine>,
    protocol: &'static str,
    gives: &'static str,
    parameters: Vec<ParameterLine>,
    security: &'static str,
    memory: bool,
    allowed: Vec<AllowedLine>,
    quirks: Vec<QuirkLine>,
}

/// A way to reach it.
#[derive(Debug, Serialize)]
#[serde(tag = "link", rename_all = "kebab-case")]
enum LinkLine {
    Ble {
        advertises: Vec<String>,
        names: &'static [&'static str],
        services: Vec<String>,
        characteristics: Vec<String>,
        service_data: Vec<String>,
    },
    Serial {
        baud: u32,
        parity: &'static str,
    },
    File,
}

#[derive(Debug, Serialize)]
struct ParameterLine {
    code: u32,
    name: &'static str,
    loinc: &'static [&'static str],
    units: &'static [&'static str],
}

/// A write that the driver may make.
#[derive(Debug, Serialize)]
struct AllowedLine {
    command: &'static str,
    effect: &'static str,
    /// `None` on a wire.
    characteristic: Option<String>,
    /// Hexadecimal; empty where what is written stands nowhere else.
    octets: String,
    /// Where in what is written they stand.
    at: usize,
}

#[derive(Debug, Serialize)]
struct QuirkLine {
    quirk: &'static str,
    manufacturer: &'static str,
    model: &'static str,
    firmware: &'static str,
    what: &'static str,
    vector: &'static str,
    source: &'static str,
}

fn link(link: &Link) -> LinkLine {
    match link {
        Link::Ble { advertises, names, listens } => LinkLine::Ble {
            advertises: advertises.iter().map(ToString::to_string).collect(),
            names,
            services: services(listens.iter().filter(|endpoint| !is_advertised(endpoint))),
            characteristics: listens.iter().filter(|e| !is_advertised(e)).map(|e| e.characteristic.to_string()).collect(),
            service_data: services(listens.iter().filter(|endpoint| is_advertised(endpoint))),
        },
        Link::Serial(port) => LinkLine::Serial { baud: port.baud, parity: if port.even_parity { "even" } else { "none" } },
        Link::File => LinkLine::File,
    }
}

fn is_advertised(endpoint: &Endpoint) -> bool {
    endpoint.characteristic.is_nil()
}

/// Each once.
fn services<'a>(endpoints: impl Iterator<Item = &'a Endpoint>) -> Vec<String> {
    let mut services: Vec<String> = endpoints.map(|endpoint| endpoint.service.to_string()).collect();
    services.dedup();
    services
}

fn parameter(code: &Mdc) -> ParameterLine {
    let row = code.row();
    ParameterLine {
        code: code.0,
        name: row.map_or("", |row| row.name),
        loinc: row.map_or(&[], |row| row.loinc),
        units: row.map_or(&[], |row| row.units),
    }
}

fn allowed(row: &Allowed) -> AllowedLine {
    let effect = match row.effect {
        Effect::Ask => "ask",
        Effect::Stream => "stream",
        Effect::Converse => "converse",
        Effect::SetClock => "set-clock",
        Effect::Delete => "delete",
    };
    let characteristic = (row.to != Endpoint::SERIAL).then(|| row.to.characteristic.to_string());
    AllowedLine { command: row.name, effect, characteristic, octets: kit_protocol::json::hex(row.octets), at: row.at }
}

fn quirk(quirk: &Quirk) -> QuirkLine {
    let Quirk { name, manufacturer, model, firmware, what, vector: (vector, source) } = *quirk;
    QuirkLine { quirk: name, manufacturer, model, firmware, what, vector, source }
}

/// The driver table.
pub(super) fn drivers(json: bool) -> Result<(), Failure> {
    let line = |driver: &device_drivers::driver::Driver| DriverLine {
        driver: driver.name,
        version: driver.version,
        links: driver.links.iter().map(link).collect(),
        protocol: driver.protocol,
        gives: driver.gives,
        security: match driver.security {
            Security::None => "none",
            Security::Unauthenticated => "unauthenticated",
            Security::Authenticated => "authenticated",
        },
        memory: driver.memory,
        parameters: driver.parameters.iter().map(parameter).collect(),
        allowed: driver.allowed.iter().map(allowed).collect(),
        quirks: driver.quirks.iter().map(quirk).collect(),
    };
    let lines: Vec<DriverLine> = DRIVERS.iter().map(line).collect();
    if json {
        return Ok(print::json(&lines)?);
    }
    let way = |link: &LinkLine| match link {
        LinkLine::Ble { .. } => "ble",
        LinkLine::Serial { .. } => "serial",
        LinkLine::File => "file",
    };
    let ways = |line: &DriverLine| line.links.iter().map(way).collect::<Vec<_>>().join(", ");
    let row = |line: &DriverLine| [line.driver, &ways(line), line.protocol, line.gives].map(String::from).to_vec();
    Ok(print::table_of_texts(&["driver", "link", "protocol", "gives"], lines.iter().map(row).collect(), "No drivers.")?)
}

/// Readings of the local record.
#[derive(Debug, clap::Args)]
pub(super) struct Readings {
    #[command(flatten)]
    agent: AgentPlace,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// Only what was received at or after this time, such as 2026-11-21T08:00:00Z.
    #[arg(long, value_parser = time)]
    since: Option<i64>,
    /// Only this lane: urgent, vitals or waveforms.
    #[arg(long, value_parser = ["urgent", "vitals", "waveforms"])]
    lane: Option<String>,
}

/// A point in time on the command line: RFC 3339 to Unix microseconds.
pub(super) fn time(text: &str) -> Result<i64, String> {
    let timestamp: Result<jiff::Timestamp, _> = text.parse();
    timestamp.map(|time| time.as_microsecond()).map_err(|_| "expected a time with its zone, such as 2026-11-21T08:00:00Z".into())
}

/// Above a reading's cells.
pub(super) const READING_HEADER: [&str; 5] = ["received", "device", "values", "status", "assignment"];

impl Readings {
    /// Lists them, page by page.
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = self.agent.client()?;
        let mut rows = Vec::new();
        let wanted = |line: &PageLine| self.since.is_none_or(|since| line.received_us.is_some_and(|received| received >= since));
        for_each_page(&client, self.lane.as_deref(), false, |page| {
            for line in page.lines.into_iter().filter(&wanted) {
                if self.json {
                    print::line(&line.line)?;
                } else {
                    rows.push(row(&line.fields()));
                }
            }
            Ok(())
        })
        .await?;
        if self.json {
            return Ok(());
        }
        Ok(print::table(&READING_HEADER, rows, "No readings here yet.")?)
    }
}

/// Calls `each` with every page of the local record, oldest epoch first.
pub(super) async fn for_each_page(
    client: &Client,
    lane: Option<&str>,
    samples: bool,
    mut each: impl FnMut(Page) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let queue: Vec<QueueLine> = client.get("/queue").await?;
    let with_readings = |line: &&QueueLine| line.lane != "journal" && lane.is_none_or(|lane| lane == line.lane);
    for line in queue.iter().filter(with_readings) {
        let mut from = Some(1);
        while let Some(number) = from {
            let path = format!("/readings?epoch={}&lane={}&from={number}&samples={samples}", line.epoch, line.lane);
            let page: Page = client.get(&path).await?;
            from = page.next;
            each(page)?;
        }
    }
    Ok(())
}

/// A reading's cells: when, of which device, its values, its status, whose.
pub(super) fn row(line: &serde_json::Value) -> Vec<String> {
    let reading = &line["reading"];
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("").to_string();
    let value = |value: &serde_json::Value| {
        let name = value["name"].as_str().map_or_else(|| value["code"].to_string(), ToString::to_string);
        let amount = value["value"].as_str().or(value["absent"].as_str()).unwrap_or("?");
        format!("{name} {amount} {}", value["unit"].as_str().unwrap_or(""))
    };
    let mut values: Vec<String> = reading["values"].as_array().into_iter().flatten().map(value).collect();
    if let Some(recording) = reading["recording"].as_object() {
        values.push(format!("{} samples at {}/s", recording["count"], recording["rate"]));
    }
    let status: Vec<String> = reading["status"].as_array().into_iter().flatten().map(text).collect();
    let assignment = reading["assignment"].as_str().unwrap_or("unassigned").to_string();
    vec![text(&reading["received"]), text(&reading["device"]), values.join(", "), status.join(", "), assignment]
}
