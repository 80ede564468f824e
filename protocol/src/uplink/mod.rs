//! The wire between kit and centre: topics, the signed envelope, batches of records, and what settles them.

pub mod id;
pub mod record;
pub mod settlement;
pub mod signed;
pub mod topic;

/// The generated messages of `proto/telemonitoring.v1.proto`, where every field and unit is documented.
#[expect(missing_docs, reason = "generated; the schema carries the documentation")]
#[allow(clippy::all, clippy::indexing_slicing, reason = "generated")]
pub mod wire {
    include!(concat!(env!("OUT_DIR"), "/telemonitoring.v1.rs"));
}
