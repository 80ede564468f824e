//! Somebody else's broker at the broker's address.

use harness::authority::{Authority, Validity};

use super::{Bench, flowing, layout, number, until};

const SENTENCE: &str =
    "the broker's certificate is not signed by the authority in the kit's trust file: check which broker this is";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_broker_of_another_authority_is_refused_and_nothing_is_lost() {
    let mut bench = Bench::build(layout(&["oximeter-nonin"])).await;
    let elsewhere = Authority::new(&bench.directory().join("elsewhere"), "elsewhere").unwrap();
    bench.plant.hand_over().await.unwrap();
    bench.plant.status_until("it sends", flowing).await.unwrap();

    let right = bench.plant.broker.identity().clone();
    bench.plant.broker.restart_as(elsewhere.broker(Validity::Current).unwrap()).await.unwrap();
    let refused = bench.plant.status_until("it says so", |status| status["link"]["refusal"] == SENTENCE).await.unwrap();
    assert_eq!(refused["link"]["connected"], false);
    // It measures on, and what it measures waits.
    let stored = number(&refused, "/devices/0/segments");
    let on = bench.plant.status_until("it measures on", |status| number(status, "/devices/0/segments") > stored).await.unwrap();
    assert!(number(&on, "/waiting") > 0 && on["link"]["refusal"] == SENTENCE, "{on}");
    let asked = bench.asked(&["status", "--json"]).await;
    let said: serde_json::Value = serde_json::from_str(&asked.out).unwrap();
    assert_eq!((asked.code, &said["link"]["refusal"]), (Some(0), &SENTENCE.into()));
    let sentence = format!("Not connected: {SENTENCE}. Readings are kept here and sent later.");
    assert!(bench.asked(&["status"]).await.out.lines().any(|line| line == sentence));

    // This broker has no memory: what reaches it before the centre is back is lost between them, and the kit sends it again
    // only when it has missed its acknowledgement for a minute.
    bench.plant.cut();
    bench.plant.broker.restart_as(right).await.unwrap();
    let log = bench.plant.log("centre");
    let connections = || std::fs::read_to_string(&log).unwrap().matches("connected to the broker").count();
    until("the centre is back", || (connections() == 2).then_some(())).await;
    bench.plant.mend();
    bench.plant.status_until("it is back", |status| status["link"]["settled"] == true).await.unwrap();
    let balance = bench.plant.settle().await.unwrap().balance;
    assert!(balance.holds() && balance.missed.is_empty() && balance.stored > 0, "{balance:?}");
}
