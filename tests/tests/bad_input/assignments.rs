//! Assignment documents that do not fit, and what an assignment's start and end do to readings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::clock;
use harness::ledger::{Fault, Period};
use harness::plant::{ASSIGNMENT, KIT, Outcome, TENANT};
use kit_centre::signature::SigningKey;
use kit_protocol::uplink::signed;
use kit_protocol::uplink::topic::Topic;
use kit_protocol::uplink::wire::{Assignment, SignedType};

use super::{Bench, flowing, layout, number};

/// Long enough for the oximeter to measure once more, and to give up telling it.
const UNHEARD: Duration = Duration::from_secs(40);

const FORGED: &str = "this document was not signed by the centre (the signature does not fit); ask the centre for it again";
const NO_DOCUMENT: &str = "this document was not signed by the centre (not a signed message); ask the centre for it again";
const ANOTHER: &str = "this document is for the kit KIT-0002, not for this one; take the document of this kit";
const OLD: &str = "this document is older than one already taken here; ask the centre for a new one";

impl Bench {
    /// `assignment start` of a file is refused with this sentence, and nothing changes.
    async fn refuses(&mut self, document: &Path, sentence: &str) {
        let before = self.numbers_given().await;
        let said = self.asked(&["assignment", "start", &document.to_string_lossy()]).await;
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.complaint().starts_with(&format!("kit-agent: {sentence}")), "{said:?}");
        assert_eq!(self.numbers_given().await, before);
    }

    async fn assignment(&mut self) -> Option<String> {
        // Before its store is open the agent knows of no assignment.
        let status = self.plant.status_until("its store is open", |status| status["store_trouble"].is_null()).await.unwrap();
        status["assignment"].as_str().map(str::to_owned)
    }

    /// A document like the centre's, signed by a key that is not the centre's.
    fn signed_elsewhere(&self) -> PathBuf {
        let key = self.plant.authority.signing_key("elsewhere").unwrap().key;
        let key = SigningKey::from_pem(&std::fs::read_to_string(key).unwrap()).unwrap();
        let assignment = Assignment {
            id: "stolen-1".to_owned(),
            tenant: TENANT.to_owned(),
            kit: KIT.to_owned(),
            patient: "patient-1".to_owned(),
            counter: 1_000,
            ..Assignment::default()
        };
        let topic = Topic::Document(TENANT.parse().unwrap(), KIT.parse().unwrap()).name();
        let document = self.directory().join("elsewhere.assignment");
        std::fs::write(&document, signed::seal(&key, SignedType::Assignment, &topic, &assignment).unwrap()).unwrap();
        document
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_a_document_for_another_kit_or_forged_or_used_is_refused_in_a_sentence_and_changes_nothing() {
    let mut bench = Bench::build(layout(&[])).await;
    bench.plant.start_agent().unwrap();
    bench.plant.agent_answers().await.unwrap();
    let another = bench.plant.sign_assignment("KIT-0002", "other-1").await.unwrap();
    let right = bench.plant.sign_assignment(KIT, ASSIGNMENT).await.unwrap();
    let forged = bench.directory().join("forged.assignment");
    let mut octets = std::fs::read(&right).unwrap();
    let id = octets.windows(ASSIGNMENT.len()).position(|window| window == ASSIGNMENT.as_bytes()).unwrap();
    octets[id] ^= 1;
    std::fs::write(&forged, octets).unwrap();
    let elsewhere = bench.signed_elsewhere();
    let text = bench.directory().join("text");
    std::fs::write(&text, "an assignment, please").unwrap();

    for active in [None, Some(ASSIGNMENT.to_owned())] {
        bench.refuses(&another, ANOTHER).await;
        bench.refuses(&forged, FORGED).await;
        bench.refuses(&elsewhere, "this document was not signed by the centre (signed by an unknown key ").await;
        bench.refuses(&text, NO_DOCUMENT).await;
        if active.is_some() {
            bench.refuses(&right, OLD).await;
        }
        assert_eq!(bench.assignment().await, active);
        if active.is_none() {
            let said = bench.asked(&["assignment", "start", &right.to_string_lossy()]).await;
            assert_eq!((said.code, said.out.trim_end()), (Some(0), "Assignment demo-1 is active."), "{said:?}");
        }
    }
    let said = bench.asked(&["assignment", "end"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    bench.refuses(&right, OLD).await;
    assert_eq!(bench.assignment().await, None);
    let said = bench.asked(&["assignment", "end"]).await;
    assert_eq!((said.code, said.complaint()), (Some(1), "kit-agent: no assignment is active here; nothing was changed"));
    let none = bench.directory().join("none");
    let said = bench.asked(&["assignment", "start", &none.to_string_lossy()]).await;
    assert!(said.code == Some(2) && said.complaint().contains("cannot be read"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_readings_are_an_assignments_from_its_start_to_its_end_and_sigkill_right_after_the_start_takes_nothing_back() {
    let mut bench = Bench::build(layout(&["oximeter-nonin"])).await;
    bench.plant.start_agent().unwrap();
    bench.plant.agent_answers().await.unwrap();
    bench.plant.listening_from_ns = clock::now().as_nanos();
    bench.plant.start_devices(|_| true).await.unwrap();
    bench.plant.status_until("it stores under no assignment", flowing).await.unwrap();

    let document = bench.plant.sign_assignment(KIT, ASSIGNMENT).await.unwrap();
    let started_from = clock::now().as_nanos();
    let said = bench.asked(&["assignment", "start", &document.to_string_lossy()]).await;
    bench.plant.kill_agent();
    let started_to = clock::now().as_nanos();
    assert_eq!(said.code, Some(0), "{said:?}");
    bench.plant.faults.push(Fault { from_boottime_ns: started_from, to_boottime_ns: started_to });
    bench.plant.faults.swap(0, 1);
    bench.plant.start_agent().unwrap();
    bench.plant.agent_answers().await.unwrap();
    assert_eq!(bench.assignment().await.as_deref(), Some(ASSIGNMENT));
    let on = bench.plant.status_until("it stores under the assignment", flowing).await.unwrap();

    let ended_from = clock::now().as_nanos();
    let said = bench.asked(&["assignment", "end"]).await;
    let ended_to = clock::now().as_nanos();
    assert_eq!((said.code, bench.assignment().await), (Some(0), None), "{said:?}");
    bench.plant.faults.push(Fault { from_boottime_ns: ended_from, to_boottime_ns: ended_to });
    // The recording that the end cut off gives a segment too.
    let enough = number(&on, "/devices/0/segments") + 3;
    bench
        .plant
        .status_until("it stores under none again", |status| number(status, "/devices/0/segments") >= enough)
        .await
        .unwrap();

    let mut periods = bench.plant.settle().await.unwrap().gathered.periods;
    periods.dedup_by(|later, earlier| later.assignment == earlier.assignment);
    let names: Vec<Option<&str>> = periods.iter().map(|period| period.assignment.as_deref()).collect();
    assert_eq!(names, [None, Some(ASSIGNMENT), None]);
    assert!((started_from..started_to).contains(&periods[1].from_boottime_ns), "{periods:?}");
    assert!((ended_from..ended_to).contains(&periods[2].from_boottime_ns), "{periods:?}");
    bench.plant.periods.clone_from(&periods);
    let outcome = bench.plant.compare().unwrap();
    assert!(outcome.balance.holds(), "{:?}", outcome.balance);
    for (index, Period { from_boottime_ns, assignment }) in periods.iter().enumerate() {
        let to = periods.get(index + 1).map_or(u64::MAX, |next| next.from_boottime_ns);
        let within = |at: u64| (*from_boottime_ns..to).contains(&at);
        let segments = outcome.gathered.segments.iter().filter(|segment| within(segment.boottime_ns)).count();
        assert!(segments > 0, "{assignment:?}: {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_an_oximeters_memory_gives_the_next_patient_nothing_of_the_last_one() {
    let mut bench = Bench::build(layout(&["pulse-oximeter"])).await;
    bench.plant.hand_over().await.unwrap();
    let stored = |status: &serde_json::Value| number(status, "/devices/0/readings") > 0;
    bench.plant.status_until("it stores the first patient's", stored).await.unwrap();

    // The first patient goes on measuring while nobody listens; then the kit is switched over, without the centre.
    bench.plant.kill_agent();
    tokio::time::sleep(UNHEARD).await;
    let document = bench.plant.sign_assignment(KIT, "demo-2").await.unwrap();
    bench.plant.cut();
    bench.plant.start_agent().unwrap();
    bench.plant.agent_answers().await.unwrap();
    let said = bench.asked(&["assignment", "start", &document.to_string_lossy()]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let now = clock::now().as_nanos();
    bench.plant.periods.push(Period { from_boottime_ns: now, assignment: Some("demo-2".to_owned()) });
    let started = number(&bench.plant.status().await.unwrap(), "/devices/0/readings");
    let more = |status: &serde_json::Value| number(status, "/devices/0/readings") > started;
    bench.plant.status_until("it stores the second patient's", more).await.unwrap();
    bench.plant.mend();

    let Outcome { balance, gathered } = bench.plant.settle().await.unwrap();
    assert!(balance.holds(), "{balance:?}");
    let under =
        |assignment: &str| gathered.readings.iter().filter(|reading| reading.assignment.as_deref() == Some(assignment)).count();
    assert!(under(ASSIGNMENT) > 0 && under("demo-2") > 0, "{balance:?}");
}
