//! mosquitto 2 as a region would run it: persistence on, client certificates demanded, the user and the client id taken from
//! the certificate, and an access list with lines per kit (a `pattern` with `+` would let a kit publish into another tenant).

use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{BrokerError, Clients, PACKET_OCTETS_MAX};
use crate::authority::Identity;

/// Where mosquitto is: on the PATH, or where Debian puts it.
#[must_use]
pub fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|folder| folder.join("mosquitto"))
        .find(|file| file.is_file())
}

/// The arguments of the role `mosquitto`: the program and its configuration.
pub fn arguments(directory: &Path) -> Result<[OsString; 2], BrokerError> {
    Ok([find().ok_or(BrokerError::NotInstalled)?.into(), directory.join("mosquitto.conf").into()])
}

/// The role `mosquitto`: becomes mosquitto; the signal that ends it with its parent stays set. Returns only if it could not.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> BrokerError {
    let mut arguments = arguments.into_iter();
    let (Some(program), Some(configuration)) = (arguments.next(), arguments.next()) else {
        return BrokerError::NotInstalled;
    };
    BrokerError::Io(Command::new(program).arg("-c").arg(configuration).exec())
}

/// Forgets sessions, queued and retained messages.
pub fn wipe(directory: &Path) -> std::io::Result<()> {
    let memory = directory.join("memory");
    std::fs::remove_dir_all(&memory)?;
    std::fs::create_dir(&memory)
}

/// Writes `mosquitto.conf` and `access` into `directory`.
pub fn configure(directory: &Path, listen: SocketAddr, identity: &Identity, clients: &Clients) -> std::io::Result<()> {
    let memory = directory.join("memory");
    std::fs::create_dir_all(&memory)?;
    let access = directory.join("access");
    std::fs::write(&access, access_list(clients))?;
    // As root it would become the user `mosquitto` and could not read the directory.
    let user = if rustix::process::geteuid().is_root() { "user root\n" } else { "" };
    let text = format!(
        "{user}\
         per_listener_settings false\n\
         allow_anonymous false\n\
         acl_file {access}\n\
         persistence true\n\
         persistence_location {memory}/\n\
         autosave_interval 1\n\
         autosave_on_changes true\n\
         max_queued_messages 0\n\
         message_size_limit {PACKET_OCTETS_MAX}\n\
         log_type error\n\
         log_type warning\n\
         log_type notice\n\
         listener {port} {ip}\n\
         cafile {authority}\n\
         certfile {certificate}\n\
         keyfile {key}\n\
         require_certificate true\n\
         use_identity_as_username true\n\
         use_username_as_clientid true\n",
        access = access.display(),
        memory = memory.display(),
        port = listen.port(),
        ip = listen.ip(),
        authority = identity.authority.display(),
        certificate = identity.certificate.display(),
        key = identity.key.display(),
    );
    std::fs::write(directory.join("mosquitto.conf"), text)
}

/// A kit writes its own `up` and `state` and reads what is meant for it; it reads its own `state` too, since it publishes its
/// birth again when it sees itself offline. A worker of the centre reads every kit and writes what goes down.
fn access_list(clients: &Clients) -> String {
    let mut list = String::new();
    for (kit, tenant) in &clients.kits {
        // Writing into a String cannot fail.
        let _ = writeln!(
            list,
            "user {kit}\n\
             topic write tm/1/{tenant}/{kit}/up/+\n\
             topic readwrite tm/1/{tenant}/{kit}/state\n\
             topic read tm/1/{tenant}/{kit}/down/#\n\
             topic read tm/1/{tenant}/centre/state"
        );
    }
    for worker in &clients.workers {
        let _ = writeln!(
            list,
            "user {worker}\n\
             topic read tm/1/+/+/up/+\n\
             topic read tm/1/+/+/state\n\
             topic write tm/1/+/+/down/#\n\
             topic write tm/1/+/centre/state"
        );
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i4_a_kit_may_write_only_under_its_own_name_and_tenant() {
        let clients = Clients {
            kits: vec![("KIT-0001".parse().unwrap(), "centro".parse().unwrap())],
            workers: vec!["centre-1".to_owned()],
        };
        let list = access_list(&clients);
        let of_the_kit: Vec<&str> = list.lines().take_while(|line| *line != "user centre-1").collect();
        assert_eq!(of_the_kit[0], "user KIT-0001");
        for line in of_the_kit.iter().filter(|line| line.contains("write")) {
            assert!(line.contains("tm/1/centro/KIT-0001/"), "{line}");
        }
    }
}
