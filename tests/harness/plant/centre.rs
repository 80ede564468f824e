//! How the centre is configured, and what it is asked.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use kit_protocol::uplink::id::Tenant;

use super::PlantError;
use super::devices::quoted;
use crate::authority::{Identity, SigningKey};

/// The patient's logical id.
const PATIENT: &str = "patient-1";

/// The centre's database.
pub fn database(directory: &Path) -> PathBuf {
    directory.join("centre").join("centre.db")
}

fn configuration(directory: &Path) -> PathBuf {
    directory.join("centre.toml")
}

/// Writes its configuration. It speaks to the broker directly: the network that fails is the kit's.
pub fn configure(
    directory: &Path,
    broker: SocketAddr,
    tenant: &Tenant,
    identity: &Identity,
    signing: &SigningKey,
) -> Result<(), PlantError> {
    let text = format!(
        "database = {database}\n\
         tenants = [\"{tenant}\"]\n\
         \n[broker]\n\
         host = \"localhost\"\n\
         port = {port}\n\
         authority = {authority}\n\
         certificate = {certificate}\n\
         key = {key}\n\
         \n[kits]\n\
         authority = {authority}\n\
         \n[signing]\n\
         key = {signing}\n",
        database = quoted(&database(directory)),
        port = broker.port(),
        authority = quoted(&identity.authority),
        certificate = quoted(&identity.certificate),
        key = quoted(&identity.key),
        signing = quoted(&signing.key),
    );
    std::fs::write(configuration(directory), text).map_err(PlantError::io("the centre's configuration"))
}

/// The arguments that make it run.
pub fn run(directory: &Path) -> Vec<OsString> {
    vec!["run".into(), "--config".into(), configuration(directory).into()]
}

/// The arguments that make it sign an assignment into `document`.
pub fn assign(directory: &Path, kit: &str, assignment: &str, document: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["assign".into(), kit.into(), "--out".into(), document.into()];
    arguments.extend(["--config".into(), configuration(directory).into_os_string()]);
    for (option, value) in [("--patient", PATIENT), ("--id", assignment)] {
        arguments.extend([option.into(), value.into()]);
    }
    arguments
}
