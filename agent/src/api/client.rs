//! The command line's side of the local API.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

/// Octets of an answer, at most.
const ANSWER_OCTETS_MAX: usize = 64 * 1024 * 1024;
/// An answer that takes longer is none.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);

/// Why there is no answer, with the next step.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing answers on the socket.
    #[error("no agent answers on {0} ({1}); is `kit-agent run` up, and are you its user or root?")]
    NoAgent(PathBuf, std::io::Error),
    /// The conversation broke off.
    #[error("the agent broke the conversation off ({0}); try again, then look at its log")]
    Broken(String),
    /// The agent refused.
    #[error("{0}")]
    Refused(String),
}

/// Asks the agent; one connection a question.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// For the agent that listens on `socket`.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_path_buf() }
    }

    /// Gets a JSON answer.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let body = self.ask(Method::GET, path, Bytes::new()).await?;
        serde_json::from_slice(&body).map_err(|error| ClientError::Broken(error.to_string()))
    }

    /// Has something done of which the answer is JSON.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: Vec<u8>) -> Result<T, ClientError> {
        let body = self.ask(Method::POST, path, body.into()).await?;
        serde_json::from_slice(&body).map_err(|error| ClientError::Broken(error.to_string()))
    }

    /// Has something done; the answer is a sentence.
    pub async fn order(&self, method: Method, path: &str, body: Vec<u8>) -> Result<String, ClientError> {
        let body = self.ask(method, path, body.into()).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let asked = tokio::time::timeout(ANSWER_WAIT_MAX, self.ask_unbounded(method, path, body));
        asked.await.unwrap_or_else(|_| Err(ClientError::Broken("no answer in 30 s".into())))
    }

    async fn ask_unbounded(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let broken = |error: hyper::Error| ClientError::Broken(error.to_string());
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| ClientError::NoAgent(self.socket.clone(), error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "kit-agent");
        let request = request.header("content-type", "application/json").body(Full::new(body));
        let request = request.map_err(|error| ClientError::Broken(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let collected = Limited::new(response.into_body(), ANSWER_OCTETS_MAX).collect().await;
        let octets = collected.map_err(|error| ClientError::Broken(error.to_string()))?.to_bytes();
        if status.is_success() { Ok(octets) } else { Err(ClientError::Refused(String::from_utf8_lossy(&octets).into_owned())) }
    }
}
