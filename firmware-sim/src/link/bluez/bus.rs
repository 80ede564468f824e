//! The message bus: who is connected, which signals each asked for, and how answers and signals are put into messages.
//!
//! Source: D-Bus Specification 0.43, "Message Bus Specification"; limits of dbus-daemon 1.14, `bus/config-parser.c`.

use std::collections::{BTreeMap, HashMap};

use zbus::DBusError as _;
use zbus::match_rule::PathSpec;
use zbus::message::{Flags, Message, Type};
use zbus::zvariant::{DynamicType, Value};
use zbus::{MatchRule, fdo};

/// The most match rules one connection may hold. Source: dbus-daemon's default, `max_match_rules_per_connection`.
pub(super) const MATCH_RULES_MAX: usize = 512;

/// The bus's own name, interface and path.
pub(super) const BUS_NAME: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";
/// The name that bluetoothd owns.
pub(super) const BLUEZ_NAME: &str = "org.bluez";
/// Where signals about properties come from.
pub(super) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// Where signals about objects come from.
pub(super) const OBJECT_MANAGER: &str = "org.freedesktop.DBus.ObjectManager";

/// A client's number, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ClientId(pub(super) u32);

/// Properties of one interface of one object.
pub(super) type Properties = BTreeMap<&'static str, Value<'static>>;

/// A method call, kept until it is answered.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// Who calls.
    pub(super) client: ClientId,
    /// The message.
    pub(super) message: Message,
}

impl Call {
    /// The object called.
    pub(super) fn path(&self) -> String {
        self.message.header().path().map(ToString::to_string).unwrap_or_default()
    }

    /// The interface named, if one was.
    pub(super) fn interface(&self) -> Option<String> {
        self.message.header().interface().map(ToString::to_string)
    }

    /// The method called.
    pub(super) fn member(&self) -> String {
        self.message.header().member().map(ToString::to_string).unwrap_or_default()
    }

    /// Who is called.
    fn destination(&self) -> Option<String> {
        self.message.header().destination().map(ToString::to_string)
    }
}

/// Why a call is refused: a D-Bus error name and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    name: String,
    text: String,
}

impl Refusal {
    /// An error of BlueZ, `org.bluez.Error.{name}`.
    pub(super) fn bluez(name: &str, text: &str) -> Self {
        Self { name: format!("org.bluez.Error.{name}"), text: text.to_owned() }
    }

    /// `org.bluez.Error.Failed`.
    pub(super) fn failed(text: &str) -> Self {
        Self::bluez("Failed", text)
    }

    /// `org.bluez.Error.InProgress`.
    pub(super) fn in_progress() -> Self {
        Self::bluez("InProgress", "Operation already in progress")
    }

    /// `org.bluez.Error.InvalidArguments`.
    pub(super) fn invalid_arguments() -> Self {
        Self::bluez("InvalidArguments", "Invalid arguments in method call")
    }

    /// An error of D-Bus itself.
    pub(super) fn bus(error: &fdo::Error) -> Self {
        Self { name: error.name().to_string(), text: error.description().unwrap_or_default().to_owned() }
    }

    /// No such method, interface or object.
    pub(super) fn unknown_method(call: &Call) -> Self {
        let interface = call.interface().unwrap_or_default();
        let text = format!("Method \"{}\" on interface \"{interface}\" doesn't exist", call.member());
        Self { name: "org.freedesktop.DBus.Error.UnknownObject".to_owned(), text }
    }

    fn service_unknown(name: &str) -> Self {
        let text = format!("The name {name} was not provided by any .service files");
        Self::bus(&fdo::Error::ServiceUnknown(text))
    }
}

/// How a call is answered.
pub(super) enum Answer {
    /// With this message.
    Now(zbus::Result<Message>),
    /// Later, by [`Bus::reply`] or [`Bus::refuse`].
    Later,
}

/// What a call leads to.
pub(super) type Outcome = Result<Answer, Refusal>;

/// A connected client.
struct Client {
    name: String,
    greeted: bool,
    rules: Vec<MatchRule<'static>>,
}

/// The bus as a value: messages come in, messages for clients come out.
#[derive(Default)]
pub(super) struct Bus {
    clients: BTreeMap<ClientId, Client>,
    /// The unique name of whoever owns `org.bluez`; `None` while bluetoothd does not run.
    owner: Option<String>,
    owners: u32,
    out: Vec<(ClientId, Message)>,
    faults: Vec<zbus::Error>,
}

impl Bus {
    /// A client connected.
    pub(super) fn joined(&mut self, client: ClientId) {
        self.clients.insert(client, Client { name: format!(":1.{}", client.0), greeted: false, rules: Vec::new() });
    }

    /// A client's connection ended: its match rules end with it.
    pub(super) fn left(&mut self, client: ClientId) {
        self.clients.remove(&client);
        self.out.retain(|(to, _)| *to != client);
    }

    /// Whether bluetoothd runs.
    pub(super) fn serving(&self) -> bool {
        self.owner.is_some()
    }

    /// bluetoothd takes or loses its name.
    pub(super) fn set_serving(&mut self, serving: bool) {
        if serving == self.serving() {
            return;
        }
        let old = self.owner.take();
        if serving {
            self.owners += 1;
            self.owner = Some(format!(":0.{}", self.owners));
        }
        let body = (BLUEZ_NAME, old.unwrap_or_default(), self.owner.clone().unwrap_or_default());
        self.broadcast(BUS_NAME, BUS_PATH, BUS_NAME, "NameOwnerChanged", &body);
    }

    /// What is to be sent, in order.
    pub(super) fn take_out(&mut self) -> Vec<(ClientId, Message)> {
        std::mem::take(&mut self.out)
    }

    /// Messages that could not be built: faults of this program.
    pub(super) fn take_faults(&mut self) -> Vec<zbus::Error> {
        std::mem::take(&mut self.faults)
    }

    /// Answers what the bus itself answers; `None` for a call to bluetoothd.
    pub(super) fn call(&mut self, call: &Call) -> Option<Outcome> {
        let greeted = self.clients.get(&call.client).is_some_and(|client| client.greeted);
        match call.destination().as_deref() {
            Some(BUS_NAME) if greeted || call.member() == "Hello" => Some(self.bus_method(call)),
            _ if !greeted => {
                let text = "Client tried to send a message other than Hello without being registered";
                Some(Err(Refusal::bus(&fdo::Error::AccessDenied(text.to_owned()))))
            }
            Some(name) if self.serving() && (name == BLUEZ_NAME || Some(name) == self.owner.as_deref()) => None,
            Some(name) => Some(Err(Refusal::service_unknown(name))),
            None => Some(Err(Refusal::unknown_method(call))),
        }
    }

    fn bus_method(&mut self, call: &Call) -> Outcome {
        let body = call.message.body();
        let name = || body.deserialize::<String>().map_err(|error| Refusal::bus(&fdo::Error::InvalidArgs(error.to_string())));
        match call.member().as_str() {
            "Hello" => self.hello(call),
            "AddMatch" => self.add_match(call, &name()?),
            "RemoveMatch" => self.remove_match(call, &name()?),
            "GetNameOwner" => match self.owner_of(&name()?) {
                Some(owner) => self.answer(call, &owner),
                None => Err(Refusal::bus(&fdo::Error::NameHasNoOwner(format!("Could not get owner of name '{}'", name()?)))),
            },
            "NameHasOwner" => self.answer(call, &self.owner_of(&name()?).is_some()),
            "ListNames" => {
                let unique = self.clients.values().map(|client| client.name.clone());
                let bluez = self.owner.iter().flat_map(|owner| [BLUEZ_NAME.to_owned(), owner.clone()]);
                let names: Vec<String> = std::iter::once(BUS_NAME.to_owned()).chain(bluez).chain(unique).collect();
                self.answer(call, &names)
            }
            _ => Err(Refusal::unknown_method(call)),
        }
    }

    fn owner_of(&self, name: &str) -> Option<String> {
        match name {
            BUS_NAME => Some(BUS_NAME.to_owned()),
            BLUEZ_NAME => self.owner.clone(),
            unique => self.clients.values().find(|client| client.name == unique).map(|client| client.name.clone()),
        }
    }

    fn hello(&mut self, call: &Call) -> Outcome {
        let Some(client) = self.clients.get_mut(&call.client) else { return Err(Refusal::unknown_method(call)) };
        if client.greeted {
            return Err(Refusal::bus(&fdo::Error::Failed("Already handled an Hello message".to_owned())));
        }
        client.greeted = true;
        let name = client.name.clone();
        self.answer(call, &name)
    }

    fn add_match(&mut self, call: &Call, text: &str) -> Outcome {
        let rule = MatchRule::try_from(text).map_err(|error| Refusal::bus(&fdo::Error::MatchRuleInvalid(error.to_string())))?;
        let Some(client) = self.clients.get_mut(&call.client) else { return Err(Refusal::unknown_method(call)) };
        if client.rules.len() >= MATCH_RULES_MAX {
            let text = format!(
                "Connection \"{}\" is not allowed to add more match rules (increase limits in configuration file if required; \
                 max_match_rules_per_connection={MATCH_RULES_MAX})",
                client.name
            );
            return Err(Refusal::bus(&fdo::Error::LimitsExceeded(text)));
        }
        client.rules.push(rule.into_owned());
        self.answer(call, &())
    }

    fn remove_match(&mut self, call: &Call, text: &str) -> Outcome {
        let rule = MatchRule::try_from(text).map_err(|error| Refusal::bus(&fdo::Error::MatchRuleInvalid(error.to_string())))?;
        let Some(client) = self.clients.get_mut(&call.client) else { return Err(Refusal::unknown_method(call)) };
        let Some(position) = client.rules.iter().position(|held| *held == rule) else {
            let text = "The given match rule wasn't found and can't be removed".to_owned();
            return Err(Refusal::bus(&fdo::Error::MatchRuleNotFound(text)));
        };
        client.rules.swap_remove(position);
        self.answer(call, &())
    }

    /// The answer to a call, to be returned from the method.
    pub(super) fn answer<B: serde::Serialize + DynamicType>(&self, call: &Call, body: &B) -> Outcome {
        Ok(Answer::Now(self.build_answer(call, body)))
    }

    fn build_answer<B: serde::Serialize + DynamicType>(&self, call: &Call, body: &B) -> zbus::Result<Message> {
        let to = self.clients.get(&call.client).map_or("", |client| client.name.as_str());
        Message::method_return(&call.message.header())?.sender(self.speaker(call))?.destination(to)?.build(body)
    }

    /// Who answers a call: the bus or bluetoothd.
    fn speaker(&self, call: &Call) -> String {
        let bus = call.destination().as_deref() == Some(BUS_NAME);
        self.owner.clone().filter(|_| !bus).unwrap_or_else(|| BUS_NAME.to_owned())
    }

    /// Answers a call now.
    pub(super) fn reply<B: serde::Serialize + DynamicType>(&mut self, call: &Call, body: &B) {
        let message = self.build_answer(call, body);
        self.settle(call, message);
    }

    /// Refuses a call now.
    pub(super) fn refuse(&mut self, call: &Call, refusal: &Refusal) {
        let message = self.build_refusal(call, refusal);
        self.settle(call, message);
    }

    fn build_refusal(&self, call: &Call, refusal: &Refusal) -> zbus::Result<Message> {
        let to = self.clients.get(&call.client).map_or("", |client| client.name.as_str());
        let header = call.message.header();
        Message::error(&header, refusal.name.as_str())?.sender(self.speaker(call))?.destination(to)?.build(&refusal.text)
    }

    /// Sends what a method returned.
    pub(super) fn conclude(&mut self, call: &Call, outcome: Outcome) {
        match outcome {
            Ok(Answer::Now(message)) => self.settle(call, message),
            Ok(Answer::Later) => {}
            Err(refusal) => self.refuse(call, &refusal),
        }
    }

    fn settle(&mut self, call: &Call, message: zbus::Result<Message>) {
        let wanted = !call.message.primary_header().flags().contains(Flags::NoReplyExpected);
        match message {
            Ok(message) if wanted && self.clients.contains_key(&call.client) => self.out.push((call.client, message)),
            Ok(_) => {}
            Err(error) => self.faults.push(error),
        }
    }

    /// Calls a method of a client's object; gives the call's serial number, which the answer will name.
    pub(super) fn ask<B: serde::Serialize + DynamicType>(
        &mut self,
        client: ClientId,
        path: &str,
        interface: &str,
        member: &str,
        body: &B,
    ) -> Option<u32> {
        let owner = self.owner.clone()?;
        let to = self.clients.get(&client)?.name.clone();
        let built = || Message::method_call(path, member)?.sender(owner)?.destination(to)?.interface(interface)?.build(body);
        match built() {
            Ok(message) => {
                let serial = message.primary_header().serial_num().get();
                self.out.push((client, message));
                Some(serial)
            }
            Err(error) => {
                self.faults.push(error);
                None
            }
        }
    }

    /// A signal of bluetoothd, to every client with a rule for it.
    pub(super) fn signal<B: serde::Serialize + DynamicType>(&mut self, path: &str, interface: &str, member: &str, body: &B) {
        self.broadcast(BLUEZ_NAME, path, interface, member, body);
    }

    /// `PropertiesChanged` of one interface of one object.
    pub(super) fn changed(&mut self, path: &str, interface: &str, changed: &Properties, invalidated: &[&str]) {
        self.signal(path, PROPERTIES, "PropertiesChanged", &(interface, changed, invalidated));
    }

    fn broadcast<B: serde::Serialize + DynamicType>(&mut self, from: &str, path: &str, interface: &str, member: &str, body: &B) {
        let to: Vec<ClientId> = self
            .clients
            .iter()
            .filter(|(_, client)| client.greeted)
            .filter(|(_, client)| client.rules.iter().any(|rule| matches(rule, from, path, interface, member)))
            .map(|(id, _)| *id)
            .collect();
        if to.is_empty() {
            return;
        }
        let sender = if from == BLUEZ_NAME { self.owner.clone().unwrap_or_default() } else { from.to_owned() };
        let built = || Message::signal(path, interface, member)?.sender(sender)?.build(body);
        match built() {
            Ok(message) => self.out.extend(to.into_iter().map(|id| (id, message.clone()))),
            Err(error) => self.faults.push(error),
        }
    }
}

/// Whether a rule asks for such a signal. Rules about arguments are not used by BLE clients; one that has them matches nothing.
fn matches(rule: &MatchRule<'_>, from: &str, path: &str, interface: &str, member: &str) -> bool {
    let under = |namespace: &str| {
        path == namespace || namespace == "/" || path.strip_prefix(namespace).is_some_and(|rest| rest.starts_with('/'))
    };
    rule.msg_type().is_none_or(|wanted| wanted == Type::Signal)
        && rule.sender().is_none_or(|wanted| wanted.as_str() == from)
        && rule.interface().is_none_or(|wanted| wanted.as_str() == interface)
        && rule.member().is_none_or(|wanted| wanted.as_str() == member)
        && rule.path_spec().is_none_or(|wanted| match wanted {
            PathSpec::Path(wanted) => wanted.as_str() == path,
            PathSpec::PathNamespace(namespace) => under(namespace.as_str()),
        })
        && rule.args().is_empty()
        && rule.arg_paths().is_empty()
        && rule.arg0ns().is_none()
}

/// Options of a call: a dictionary of variants.
pub(super) type Options = HashMap<String, zbus::zvariant::OwnedValue>;
