//! How the kit is configured.

use std::path::{Path, PathBuf};

use super::devices::{Places, quoted};
use super::{KIT, Layout, TENANT};
use crate::authority::{Identity, SigningKey};
use crate::proxy::Proxy;

/// The agent's state.
pub(super) fn state(layout: &Layout, directory: &Path) -> PathBuf {
    layout.state.clone().unwrap_or_else(|| directory.join("kit"))
}

/// The text of its configuration; it speaks to the broker through `proxy`.
pub(super) fn configuration(
    layout: &Layout,
    directory: &Path,
    places: &Places,
    proxy: &Proxy,
    identity: &Identity,
    signing: &SigningKey,
    socket: &Path,
) -> String {
    let mut text = format!(
        "kit = \"{KIT}\"\n\
         tenant = \"{TENANT}\"\n\
         state = {state}\n\
         socket = {socket}\n\
         \n[broker]\n\
         host = \"localhost\"\n\
         port = {port}\n\
         authority = {authority}\n\
         certificate = {certificate}\n\
         key = {key}\n\
         \n[centre]\n\
         keys = [{centre}]\n",
        state = quoted(&state(layout, directory)),
        socket = quoted(socket),
        port = proxy.address().port(),
        authority = quoted(&identity.authority),
        certificate = quoted(&identity.certificate),
        key = quoted(&identity.key),
        centre = quoted(&signing.public),
    );
    for device in &layout.devices {
        text += &device.configuration(places, layout.seed);
        if let Some(seconds) = layout.stream_interval_s {
            text += &format!("stream_interval_s = {seconds}\n");
        }
    }
    text
}
