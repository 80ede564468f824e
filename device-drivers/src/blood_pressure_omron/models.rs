//! Where the models keep their measurements: a row a memory map that two sources give, or a captured record shows.

use kit_protocol::gatt::omron_record::Order;

use crate::driver::About;

/// How a model is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unlock {
    /// By the 16 octets written at pairing.
    Key,
    /// By any four octets, which it repeats.
    Token,
}

/// Where the clock's block is read and, elsewhere, written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClockAt {
    pub(super) read: u16,
    pub(super) write: u16,
}

/// One memory map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Model {
    /// Model numbers, whole: others that begin so have other maps.
    pub(super) names: &'static [&'static str],
    /// Characteristics each way.
    pub(super) channels: usize,
    pub(super) unlock: Unlock,
    /// Where each user's records begin.
    pub(super) users: &'static [u16],
    /// Records of a user.
    pub(super) slots: u16,
    /// Octets of a record.
    pub(super) slot_octets: u16,
    pub(super) order: Order,
    /// Octets read at once.
    pub(super) block: u8,
    pub(super) clock: Option<ClockAt>,
    /// Captured records show that the sum is kept.
    pub(super) sum_kept: bool,
}

/// Source: hass-omron d6758ed and 0467b76 (MIT), device_catalog.py; omblepy 7b02a43, 91d0686, 150e9b0, which agree on the
/// HEM-7322T, HEM-7361T and HEM-7600T. Records of a HEM-7142T2 and a HEM-7600T-E were captured.
pub(super) const MODELS: &[Model] = &[
    Model {
        names: &["HEM-7142T2", "HEM-7142T2-AP", "HEM-7142T2-Z", "HEM-7142T2-ZAZ", "HEM-7142T2_JAZ", "HEM-7142T1-AP"],
        channels: 1,
        unlock: Unlock::Token,
        users: &[0x02e8],
        slots: 14,
        slot_octets: 14,
        order: Order::Little,
        block: 0x2a,
        clock: Some(ClockAt { read: 0x028c, write: 0x02d0 }),
        sum_kept: true,
    },
    Model {
        names: &["HEM-7155T", "HEM-7155T-ALRU", "HEM-7155T-D", "HEM-7155T-EBK", "HEM-7155T-EBL", "HEM-7155T_ESL"],
        channels: 4,
        unlock: Unlock::Key,
        users: &[0x0098, 0x0458],
        slots: 60,
        slot_octets: 16,
        order: Order::Little,
        block: 0x10,
        clock: Some(ClockAt { read: 0x003c, write: 0x0080 }),
        sum_kept: false,
    },
    Model {
        names: &["HEM-7361T", "HEM-7361T-ALRU", "HEM-7361T-AP", "HEM-7361T-D", "HEM-7361T-EBK", "HEM-7361T_ESL"],
        channels: 4,
        unlock: Unlock::Key,
        users: &[0x0098, 0x06d8],
        slots: 100,
        slot_octets: 16,
        order: Order::Little,
        block: 0x10,
        clock: Some(ClockAt { read: 0x003c, write: 0x0080 }),
        sum_kept: false,
    },
    Model {
        names: &["HEM-7322T", "HEM-7322T-D", "HEM-7322T-E", "HEM-7321T-CA", "HEM-7321T-ZV", "HEM-7280T-E", "HEM-7280T-D"],
        channels: 4,
        unlock: Unlock::Key,
        users: &[0x02ac, 0x0824],
        slots: 100,
        slot_octets: 14,
        order: Order::Big,
        block: 0x2a,
        clock: None,
        sum_kept: false,
    },
    Model {
        names: &["HEM-7600T", "HEM-7600T-E", "HEM-7600T-Z", "HEM-7600T_W", "HEM-7600T_W-Z"],
        channels: 4,
        unlock: Unlock::Key,
        users: &[0x02ac],
        slots: 100,
        slot_octets: 14,
        order: Order::Big,
        block: 0x2a,
        clock: None,
        sum_kept: true,
    },
];

/// The map of the model that a device says it is, or that the configuration names.
pub(super) fn of(about: &About) -> Option<&'static Model> {
    let is = |text: &Option<String>, name: &str| text.as_ref().is_some_and(|text| text.trim().eq_ignore_ascii_case(name));
    MODELS.iter().find(|model| model.names.iter().any(|name| is(&about.model, name) || is(&about.name, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_hold_whole_records_and_users_do_not_overlap() {
        for model in MODELS {
            let octets = model.slots * model.slot_octets;
            assert!(u16::from(model.block).is_multiple_of(model.slot_octets), "{:?}", model.names);
            assert!(model.users.is_sorted_by(|one, other| one + octets <= *other), "{:?}", model.names);
            assert!(usize::from(model.block) <= kit_protocol::gatt::omron_memory::Frame::PAYLOAD_OCTETS_MAX);
            assert!(model.clock.is_none_or(|clock| model.users.iter().all(|user| clock.write + 16 <= *user)));
        }
    }

    #[test]
    fn a_name_that_only_begins_alike_is_another_model() {
        let about = |model: &str| About { model: Some(model.into()), ..About::default() };
        assert_eq!(of(&about("hem-7155t_esl")).map(|model| model.channels), Some(4));
        for other in ["HEM-7155T_ESL1", "HEM-7155T_K4-D", "HEM-9999T", ""] {
            assert!(of(&about(other)).is_none(), "{other}");
        }
    }
}
