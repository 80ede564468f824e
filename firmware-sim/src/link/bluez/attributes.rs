//! What goes over a device's link: requests one after the other, subscriptions, and the values that the device sends.
//!
//! Source: BlueZ 5.66, `src/gatt-client.c`.

use core::time::Duration;
use std::collections::BTreeSet;

use kit_protocol::moment::Moment;
use zbus::zvariant::Value;

use super::bus::{Bus, Call, ClientId, Properties, Refusal};
use super::device::{Device, Link};
use super::table::CHARACTERISTIC;
use crate::link::gatt::{AttError, Outgoing, PairingMethod, Security};

/// A request and its response: one connection interval.
const INTERVAL: Duration = Duration::from_millis(30);
/// The most notifications in one connection event.
const BURST_MAX: usize = 8;

/// What an operation does when its time comes.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// `ReadValue`.
    Read,
    /// `WriteValue` with these octets; a command is not confirmed and may not fail.
    Write { value: Vec<u8>, command: bool },
    /// `StartNotify`: the client characteristic configuration is written.
    Subscribe,
}

/// A request on its way.
pub(super) struct Operation {
    due: Moment,
    /// Whom it answers.
    pub(super) call: Call,
    characteristic: usize,
    work: Work,
}

impl Device {
    /// The characteristic at an object's path.
    pub(super) fn characteristic(&self, path: &str) -> Option<usize> {
        self.table.at(path).filter(|_| self.exported)
    }

    /// Queues a request; requests of one link are carried out one after the other.
    pub(super) fn request(&mut self, now: Moment, call: &Call, characteristic: usize, work: Work) -> Result<(), Refusal> {
        let allows = self.table.characteristics[characteristic].allows;
        let allowed = match &work {
            Work::Read => allows.read,
            Work::Write { command: true, .. } => allows.write_without_response,
            Work::Write { command: false, .. } => allows.write,
            Work::Subscribe => allows.notify || allows.indicate,
        };
        if !self.is_connected() {
            return Err(Refusal::failed("Not connected"));
        }
        if !allowed {
            return Err(match work {
                Work::Read => Refusal::bluez("NotPermitted", "Read not permitted"),
                _ => Refusal::bluez("NotSupported", "Operation is not supported"),
            });
        }
        let after = self.operations.back().map_or(now, |last| last.due.max(now));
        self.operations.push_back(Operation { due: after + INTERVAL, call: call.clone(), characteristic, work });
        Ok(())
    }

    /// `StartNotify`: one session a client and characteristic, kept over links and written again on each.
    pub(super) fn start_notify(&mut self, now: Moment, call: &Call, characteristic: usize, bus: &mut Bus) -> Result<(), Refusal> {
        if !self.table.characteristics[characteristic].sends() {
            return Err(Refusal::bluez("NotSupported", "Operation is not supported"));
        }
        if matches!(self.link, Link::Up { closing: Some(_), .. }) {
            return Err(Refusal::bluez("NotConnected", "Not Connected"));
        }
        let new = self.subscribers.entry(characteristic).or_default().insert(call.client);
        if new && self.is_connected() && !self.armed.contains(&characteristic) {
            return self.request(now, call, characteristic, Work::Subscribe);
        }
        bus.reply(call, &());
        Ok(())
    }

    /// `StopNotify`.
    pub(super) fn stop_notify(
        &mut self,
        now: Moment,
        client: ClientId,
        characteristic: usize,
        bus: &mut Bus,
    ) -> Result<(), Refusal> {
        if !self.subscribers.entry(characteristic).or_default().remove(&client) {
            return Err(Refusal::failed("No notify session started"));
        }
        self.disarm_if_unused(now, characteristic, bus);
        Ok(())
    }

    /// A client's connection ended: its sessions and requests end with it.
    pub(super) fn client_left_attributes(&mut self, now: Moment, client: ClientId, bus: &mut Bus) {
        let of_client = |clients: &mut BTreeSet<ClientId>| clients.remove(&client);
        let ended: Vec<usize> =
            self.subscribers.iter_mut().filter_map(|(index, clients)| of_client(clients).then_some(*index)).collect();
        for characteristic in ended {
            self.disarm_if_unused(now, characteristic, bus);
        }
        self.operations.retain(|operation| operation.call.client != client);
    }

    fn disarm_if_unused(&mut self, now: Moment, characteristic: usize, bus: &mut Bus) {
        if self.subscribers.get(&characteristic).is_some_and(|clients| !clients.is_empty()) {
            return;
        }
        if self.armed.remove(&characteristic) && self.is_connected() {
            self.peripheral.subscribed(now, self.table.characteristics[characteristic].uuid, false);
        }
        self.told_notifying(characteristic, false, bus);
    }

    fn told_notifying(&self, characteristic: usize, notifying: bool, bus: &mut Bus) {
        let path = &self.table.characteristics[characteristic].path;
        bus.changed(path, CHARACTERISTIC, &Properties::from([("Notifying", Value::from(notifying))]), &[]);
    }

    /// Writes again what clients subscribed to on an earlier link.
    pub(super) fn rearm(&mut self, now: Moment, bus: &mut Bus) {
        let wanted: Vec<usize> =
            self.subscribers.iter().filter(|(_, clients)| !clients.is_empty()).map(|(index, _)| *index).collect();
        for characteristic in wanted {
            if self.security >= self.table.characteristics[characteristic].needs {
                self.arm(now, characteristic, bus);
            }
        }
    }

    fn arm(&mut self, now: Moment, characteristic: usize, bus: &mut Bus) {
        if self.armed.insert(characteristic) {
            self.peripheral.subscribed(now, self.table.characteristics[characteristic].uuid, true);
            self.told_notifying(characteristic, true, bus);
        }
    }

    /// Carries out the requests whose time has come.
    pub(super) fn carry_out_due(&mut self, now: Moment, bus: &mut Bus) {
        while self.operations.front().is_some_and(|operation| operation.due <= now) {
            let Some(operation) = self.operations.pop_front() else { return };
            if let Err(refusal) = self.carry_out(now, &operation, bus) {
                if matches!(operation.work, Work::Subscribe) {
                    self.subscribers.entry(operation.characteristic).or_default().remove(&operation.call.client);
                }
                bus.refuse(&operation.call, &refusal);
            }
        }
    }

    fn carry_out(&mut self, now: Moment, operation: &Operation, bus: &mut Bus) -> Result<(), Refusal> {
        let index = operation.characteristic;
        let (uuid, needs) = (self.table.characteristics[index].uuid, self.table.characteristics[index].needs);
        if self.security < needs {
            self.raise_security(needs, bus)?;
        }
        match &operation.work {
            Work::Read => {
                let value = self.peripheral.read(now, uuid).map_err(att_refusal)?;
                self.signal_value(index, value.clone(), bus);
                bus.reply(&operation.call, &value);
            }
            Work::Write { value, command: true } => {
                // A command has no response: the sender never learns what became of it.
                let _unheard = self.peripheral.write(now, uuid, value);
                bus.reply(&operation.call, &());
            }
            Work::Write { value, command: false } => {
                self.peripheral.write(now, uuid, value).map_err(att_refusal)?;
                bus.reply(&operation.call, &());
            }
            Work::Subscribe => {
                self.arm(now, index, bus);
                bus.reply(&operation.call, &());
            }
        }
        Ok(())
    }

    /// A request met "insufficient authentication": the kernel pairs by itself where nobody need be asked.
    fn raise_security(&mut self, needs: Security, bus: &mut Bus) -> Result<(), Refusal> {
        if needs <= Security::Unauthenticated && self.peripheral.pairing() == PairingMethod::JustWorks {
            self.bonded(Security::Unauthenticated, bus);
            return Ok(());
        }
        Err(Refusal::bluez("NotPermitted", "Not paired"))
    }

    /// BlueZ stores each value and tells it, even one that equals the last, and even one that was read.
    fn signal_value(&mut self, characteristic: usize, value: Vec<u8>, bus: &mut Bus) {
        let path = &self.table.characteristics[characteristic].path;
        bus.changed(path, CHARACTERISTIC, &Properties::from([("Value", Value::from(value.clone()))]), &[]);
        self.values.insert(characteristic, value);
    }

    /// Takes what the device sends. bluetoothd confirms every indication, whether or not any client has asked for it.
    pub(super) fn exchange_values(&mut self, now: Moment, bus: &mut Bus) {
        if self.mute {
            return;
        }
        if let Some((_, uuid)) = self.confirming.take_if(|(due, _)| *due <= now) {
            self.peripheral.confirmed(now, uuid);
        }
        for _ in 0..BURST_MAX {
            if self.confirming.is_some() {
                return;
            }
            let Some(Outgoing { characteristic, value, confirmed }) = self.peripheral.poll(now) else { return };
            if confirmed {
                self.confirming = Some((now + INTERVAL, characteristic));
            }
            if let Some(index) = self.table.of(characteristic).filter(|index| self.armed.contains(index)) {
                self.signal_value(index, value, bus);
            }
        }
    }
}

/// How BlueZ words an ATT error. Source: BlueZ 5.66, `src/gatt-client.c`, `create_gatt_dbus_error`.
fn att_refusal(error: AttError) -> Refusal {
    match error {
        AttError::ReadNotPermitted => Refusal::bluez("NotPermitted", "Read not permitted"),
        AttError::WriteNotPermitted => Refusal::bluez("NotPermitted", "Write not permitted"),
        AttError::InsufficientAuthentication => Refusal::bluez("NotPermitted", "Not paired"),
        AttError::InvalidLength => Refusal::bluez("InvalidArguments", "Invalid Length"),
        AttError::RequestNotSupported => Refusal::bluez("NotSupported", "Operation is not supported"),
        other => Refusal::failed(&format!("Operation failed with ATT error: 0x{:02x}", other.code())),
    }
}
