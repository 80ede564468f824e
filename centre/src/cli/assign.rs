//! `assign`: signs an assignment, keeps it, and writes the document that the kit starts.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use kit_protocol::uplink::id::{KitId, Tenant};
use serde::Deserialize;

use super::{CliError, Place, open, rfc3339, time};
use crate::assignment::{Draft, LogicalId, issue};
use crate::clock::WallTime;
use crate::config::ConfigFile;
use crate::store::Store;

/// What is assigned to whom. Flags win over the file.
#[derive(Debug, Args)]
pub(super) struct Assign {
    /// The kit.
    kit: KitId,
    /// TOML or JSON with patient, id, start, end, tenant (texts), where they are not given as flags.
    file: Option<PathBuf>,
    /// The patient's logical id (no name, no tax code).
    #[arg(long)]
    patient: Option<String>,
    /// The assignment's id; a random one is drawn where there is none.
    #[arg(long)]
    id: Option<String>,
    /// From when: a time or a date (UTC); now, where there is none.
    #[arg(long, value_name = "T")]
    start: Option<String>,
    /// Until when; open, where there is none.
    #[arg(long, value_name = "T")]
    end: Option<String>,
    /// The kit's tenant, for a kit that has not been heard of yet where the centre serves several.
    #[arg(long)]
    tenant: Option<String>,
    /// Where the signed document goes; KIT.assignment, where there is none.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    patient: Option<String>,
    id: Option<String>,
    start: Option<String>,
    end: Option<String>,
    tenant: Option<String>,
}

impl Input {
    fn read(path: &Path) -> Result<Self, CliError> {
        let wrong = |problem: String| CliError::Usage(format!("{}: {problem}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        if text.trim_start().starts_with('{') {
            serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))
        } else {
            toml::from_str(&text).map_err(|error| wrong(error.message().replace('\n', " ")))
        }
    }
}

impl Assign {
    pub(super) fn sign(&self, place: &Place, now: WallTime, output: &mut dyn Write) -> Result<(), CliError> {
        let config = ConfigFile::read(&place.config)?;
        let database = place.database()?;
        let input = self.file.as_deref().map_or_else(|| Ok(Input::default()), Input::read)?;
        let tenant = self.tenant(&input, &config, &database)?;
        let draft = self.draft(&input, tenant, now)?;
        let signing = config.signing_key()?;
        let out = self.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}.assignment", self.kit)));
        let failed = |error: std::io::Error| CliError::Failed(format!("{}: {error}", out.display()));
        // The file comes first: an assignment that is kept, and of which there is no document, would use up its id.
        let mut file = std::fs::File::create(&out).map_err(failed)?;
        let signed = issue(&mut Store::open(&database)?, &draft, &signing, now)?;
        file.write_all(&signed.envelope).and_then(|()| file.sync_all()).map_err(failed)?;
        let it = &signed.assignment;
        let start = rfc3339(it.start_us).unwrap_or_default();
        let until = draft.end.and_then(|end| rfc3339(end.0)).map_or_else(String::new, |end| format!(" until {end}"));
        writeln!(output, "{}: {} for patient {} from {start}{until}", out.display(), it.id, it.patient)?;
        writeln!(output, "On the kit: kit-agent assignment start {}", out.display())?;
        Ok(())
    }

    fn draft(&self, input: &Input, tenant: Tenant, now: WallTime) -> Result<Draft, CliError> {
        let logical = |name: &str, text: &str| {
            text.parse::<LogicalId>().map_err(|expected| CliError::Usage(format!("{name}: {expected}, found {text:?}")))
        };
        let moment = |name: &str, text: &str| {
            time(text).map_err(|expected| CliError::Usage(format!("{name}: {expected}, found {text:?}")))
        };
        let patient = self.patient.as_ref().or(input.patient.as_ref());
        let patient = patient.ok_or_else(|| CliError::Usage("expected --patient, or a file that names a patient".to_owned()))?;
        let id = self.id.as_ref().or(input.id.as_ref());
        let start = self.start.as_ref().or(input.start.as_ref());
        let end = self.end.as_ref().or(input.end.as_ref());
        Ok(Draft {
            tenant,
            kit: self.kit.clone(),
            id: id.map(|id| logical("id", id)).transpose()?,
            patient: logical("patient", patient)?,
            start: start.map_or(Ok(now), |start| moment("start", start))?,
            end: end.map(|end| moment("end", end)).transpose()?,
        })
    }

    /// The kit's own tenant where it was heard of; else the one that is named, or the only one that is served.
    fn tenant(&self, input: &Input, config: &ConfigFile, database: &Path) -> Result<Tenant, CliError> {
        let known = if database.exists() {
            open(database)?.kits()?.into_iter().find(|kit| kit.kit == self.kit).map(|kit| kit.tenant)
        } else {
            None
        };
        let named = self.tenant.as_ref().or(input.tenant.as_ref());
        let named: Option<Tenant> =
            named.map(|text| text.parse()).transpose().map_err(|error| CliError::Usage(format!("tenant: {error}")))?;
        match (known, named, config.tenants.as_slice()) {
            (Some(known), Some(named), _) if known != named => {
                Err(CliError::Usage(format!("{} belongs to the tenant {known}, not {named}", self.kit)))
            }
            (Some(tenant), _, _) | (None, Some(tenant), _) => Ok(tenant),
            (None, None, [tenant]) => Ok(tenant.clone()),
            (None, None, _) => Err(CliError::Usage(format!("{} was not heard of yet: say whose it is with --tenant", self.kit))),
        }
    }
}
