//! The outcome: as one JSON object, and for a person.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::display::grouped;
use crate::ledger::{Balance, Missed, StoredGap};

/// The one object of `demo --json`; its fields and their order are part of the command line's contract.
#[derive(Clone, Debug, Serialize)]
pub struct Ledger {
    /// The seed.
    pub seed: u64,
    /// Spot measurements, and samples per channel of streams, put on an open link.
    pub made: u64,
    /// Of them, at the centre.
    pub stored: u64,
    /// Of them, nowhere, and not declared.
    pub missing: u64,
    /// At the centre beyond what was made.
    pub double: u64,
    /// At the centre under an assignment that was not active.
    pub wrong_assignment: u64,
    /// Spans that the kit declared missed.
    pub missed: Vec<Missed>,
    /// Numbers that the kit declared gone.
    pub gaps: Vec<StoredGap>,
    /// What met a closed link; not among `made`.
    pub undelivered: u64,
    /// Measurements that the kit refused.
    pub refused: u64,
    /// How often the network was cut.
    pub cuts: u32,
    /// How often the agent was killed.
    pub kills: u32,
    /// How often the kit was wiped.
    pub wipes: u32,
    /// Octets from kit to broker, TLS and all.
    pub octets_up: u64,
    /// Records (readings and segments) at the centre.
    pub readings_by_device: BTreeMap<String, u64>,
    /// The agent's largest proportional set size, sampled each second, KiB.
    pub pss_peak_kib: u64,
    /// From a reading's reception at the gateway to the centre's commit, milliseconds.
    pub ack_ms: AckMs,
}

/// Percentiles, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AckMs {
    /// The median.
    pub p50: u64,
    /// 99 of 100 are below.
    pub p99: u64,
}

/// For a person.
pub(super) fn text(ledger: &Ledger, balance: &Balance) -> String {
    let mut text = String::new();
    let missed: u64 = ledger.missed.iter().map(|missed| missed.samples).sum();
    // Writing into a String cannot fail.
    let _ = writeln!(text, "\n  made by the devices   {:>12}", grouped(ledger.made));
    let _ = writeln!(text, "  at the centre         {:>12}", grouped(ledger.stored));
    let _ = writeln!(text, "  declared missed       {:>12}   while the agent was down", grouped(missed));
    let _ = writeln!(text, "  missing               {:>12}", grouped(ledger.missing));
    let _ = writeln!(text, "  double                {:>12}", grouped(ledger.double));
    let _ = writeln!(text, "  wrong patient         {:>12}\n", grouped(ledger.wrong_assignment));
    for (device, share) in &balance.devices {
        let _ = writeln!(
            text,
            "  {device:<16} {:>12} made {:>12} at the centre in {} records",
            grouped(share.made),
            grouped(share.stored),
            grouped(share.records)
        );
    }
    for missed in &ledger.missed {
        let _ = writeln!(
            text,
            "  {} {} {}: {:.1} s (allowed {:.1} s), {} samples",
            missed.device,
            missed.kind,
            missed.reason,
            missed.seconds,
            missed.allowed_seconds,
            grouped(missed.samples)
        );
    }
    let _ = writeln!(
        text,
        "\n  {} octets to the broker · reading to commit {} ms (median), {} ms (99 %) · agent {} KiB at most",
        grouped(ledger.octets_up),
        grouped(ledger.ack_ms.p50),
        grouped(ledger.ack_ms.p99),
        grouped(ledger.pss_peak_kib)
    );
    let verdict =
        if balance.holds() { "Every sample is at the centre exactly once, or declared." } else { "THE LEDGER DOES NOT BALANCE." };
    let _ = writeln!(text, "  {verdict}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_has_the_fields_of_the_contract_in_their_order() {
        let ledger = Ledger {
            seed: 1,
            made: 10,
            stored: 8,
            missing: 0,
            double: 0,
            wrong_assignment: 0,
            missed: vec![Missed {
                device: "ecg".to_owned(),
                kind: "ecg".to_owned(),
                reason: "agent-down".to_owned(),
                seconds: 1.5,
                allowed_seconds: 7.0,
                samples: 2,
            }],
            gaps: Vec::new(),
            undelivered: 0,
            refused: 0,
            cuts: 1,
            kills: 1,
            wipes: 0,
            octets_up: 9,
            readings_by_device: BTreeMap::from([("ecg".to_owned(), 3)]),
            pss_peak_kib: 5,
            ack_ms: AckMs { p50: 1, p99: 2 },
        };
        assert_eq!(
            serde_json::to_string(&ledger).unwrap(),
            "{\"seed\":1,\"made\":10,\"stored\":8,\"missing\":0,\"double\":0,\"wrong_assignment\":0,\
             \"missed\":[{\"device\":\"ecg\",\"kind\":\"ecg\",\"reason\":\"agent-down\",\"seconds\":1.5,\
             \"allowed_seconds\":7.0,\"samples\":2}],\"gaps\":[],\"undelivered\":0,\"refused\":0,\"cuts\":1,\"kills\":1,\
             \"wipes\":0,\"octets_up\":9,\"readings_by_device\":{\"ecg\":3},\"pss_peak_kib\":5,\
             \"ack_ms\":{\"p50\":1,\"p99\":2}}"
        );
    }
}
