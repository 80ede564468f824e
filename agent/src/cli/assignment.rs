//! `assignment`, `assignment start FILE`, `assignment end`.

use std::path::PathBuf;

use clap::Subcommand;
use hyper::Method;

use super::{AgentPlace, Failure, print};
use crate::api::status::Status;

/// Activate or end an assignment; without either, show it.
#[derive(Debug, clap::Args)]
pub(super) struct Assignment {
    #[command(subcommand)]
    act: Option<Act>,
    #[command(flatten)]
    agent: AgentPlace,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Activate the assignment of a document that the centre signed.
    Start {
        /// The signed document.
        file: PathBuf,
    },
    /// End the active assignment; readings are then kept as unassigned.
    End,
}

impl Assignment {
    /// Carries it out.
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = self.agent.client()?;
        let sentence = match self.act {
            Some(Act::Start { file }) => {
                let document = std::fs::read(&file)
                    .map_err(|error| Failure::WrongUse(format!("{}: cannot be read: {error}", file.display())))?;
                client.order(Method::POST, "/assignment", document).await?
            }
            Some(Act::End) => client.order(Method::DELETE, "/assignment", Vec::new()).await?,
            None => {
                let status: Status = client.get("/status").await?;
                status.assignment.unwrap_or_else(|| "none".into())
            }
        };
        Ok(print::line(&sentence)?)
    }
}
