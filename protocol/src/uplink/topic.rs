//! The topics of DESIGN §6: `tm/1/{tenant}/{kit}/…`.

use alloc::format;
use alloc::string::String;

use super::id::{KitId, Lane, Tenant};

/// Where a message goes, or came from.
///
/// Shape: `tm/1/` tenant `/` kit `/` rest. Errors: [`Topic::parse`] gives `None` for anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topic {
    /// kit → centre: batches of one lane.
    Up(Tenant, KitId, Lane),
    /// kit → centre, retained, and the last will.
    State(Tenant, KitId),
    /// centre → kit: what is settled and what is refused.
    Answer(Tenant, KitId),
    /// centre → kit: assignments and, later, plans and configuration.
    Document(Tenant, KitId),
    /// centre → kits of a tenant, retained.
    CentreState(Tenant),
}

impl Topic {
    /// As MQTT writes it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Up(tenant, kit, lane) => format!("tm/1/{tenant}/{kit}/up/{lane}"),
            Self::State(tenant, kit) => format!("tm/1/{tenant}/{kit}/state"),
            Self::Answer(tenant, kit) => format!("tm/1/{tenant}/{kit}/down/ack"),
            Self::Document(tenant, kit) => format!("tm/1/{tenant}/{kit}/down/document"),
            Self::CentreState(tenant) => format!("tm/1/{tenant}/centre/state"),
        }
    }

    /// From what MQTT delivered.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let rest = name.strip_prefix("tm/1/")?;
        let (tenant, rest) = rest.split_once('/')?;
        let tenant: Tenant = tenant.parse().ok()?;
        if rest == "centre/state" {
            return Some(Self::CentreState(tenant));
        }
        let (kit, rest) = rest.split_once('/')?;
        let kit: KitId = kit.parse().ok()?;
        match rest {
            "state" => Some(Self::State(tenant, kit)),
            "down/ack" => Some(Self::Answer(tenant, kit)),
            "down/document" => Some(Self::Document(tenant, kit)),
            _ => Lane::from_name(rest.strip_prefix("up/")?).map(|lane| Self::Up(tenant, kit, lane)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let tenant: Tenant = "centro".parse().unwrap();
        let kit: KitId = "KIT-0001".parse().unwrap();
        for topic in [
            Topic::Up(tenant.clone(), kit.clone(), Lane::Waveforms),
            Topic::State(tenant.clone(), kit.clone()),
            Topic::Answer(tenant.clone(), kit.clone()),
            Topic::Document(tenant.clone(), kit),
            Topic::CentreState(tenant),
        ] {
            assert_eq!(Topic::parse(&topic.name()), Some(topic));
        }
    }

    #[test]
    fn what_is_not_a_topic_of_ours_is_none() {
        for name in [
            "",
            "tm/1",
            "tm/2/centro/KIT-0001/state",
            "tm/1/centro/kit-1/state",
            "tm/1/centro/KIT-0001/up/else",
            "tm/1/centro/KIT-0001/up/vitals/x",
        ] {
            assert_eq!(Topic::parse(name), None, "{name}");
        }
    }
}
