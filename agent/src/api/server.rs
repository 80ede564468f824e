//! The server's side: routes over a Unix socket that only the agent's user may open.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use axum::{Router, extract::DefaultBodyLimit};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::readings::{self, PageError, PageQuery};
use super::status::{self, Status};
use crate::acquisition::roster::DeviceView;
use crate::acquisition::window::{NoWindow, WindowView, Windows};
use crate::clock::Clock;
use crate::store::thread::StoreHandle;
use kit_protocol::uplink::id::KitId;
use serde::{Deserialize, Serialize};

/// Octets of a request, at most: an assignment document is some hundred.
const REQUEST_OCTETS_MAX: usize = 16 * 1024;

/// What the command line asks the agent to do.
#[derive(Debug)]
pub enum Order {
    /// Activate the assignment of this signed document.
    StartAssignment(Vec<u8>, oneshot::Sender<Result<String, String>>),
    /// End the active assignment.
    EndAssignment(oneshot::Sender<Result<String, String>>),
}

/// What the routes need.
pub struct Api {
    /// The kit.
    pub kit: KitId,
    /// The store.
    pub store: StoreHandle,
    /// The kit at a glance, made afresh.
    pub status: Box<dyn Fn() -> Status + Send + Sync>,
    /// Carried out one at a time by the supervisor.
    pub orders: mpsc::Sender<Order>,
    /// Measurement windows.
    pub windows: Windows,
    /// The time by which they open and close.
    pub clock: Arc<Clock>,
}

/// Which device's measurement window; in a body, since identities are free text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WindowQuery {
    /// The device's identity.
    pub device: String,
    /// For how long it is to be open; not needed to look at it or to close it.
    #[serde(default)]
    pub seconds: u32,
}

/// Serves until the task is dropped.
pub async fn serve(listener: UnixListener, api: Api) -> io::Result<()> {
    let router = Router::new()
        .route("/status", get(get_status))
        .route("/queue", get(get_queue))
        .route("/devices", get(get_devices))
        .route("/readings", get(get_readings))
        .route("/assignment", post(start_assignment).delete(end_assignment))
        .route("/window", post(open_window))
        .route("/window/look", post(look_at_window))
        .route("/window/close", post(close_window))
        .layer(DefaultBodyLimit::max(REQUEST_OCTETS_MAX))
        .with_state(Arc::new(api));
    axum::serve(listener, router).await
}

/// Binds the socket; one left behind by a killed agent is taken over.
///
/// Errors: `AddrInUse` where an agent answers on it; what the system says.
pub async fn listen(socket: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = socket.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match UnixStream::connect(socket).await {
        Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
        // Its queue is full: somebody is behind it.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(_) => std::fs::remove_file(socket)?,
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn get_status(State(api): State<Arc<Api>>) -> Json<Status> {
    Json((api.status)())
}

async fn get_queue(State(api): State<Arc<Api>>) -> Json<Vec<status::QueueLine>> {
    Json(status::queue(&api.store.view().borrow()))
}

async fn get_devices(State(api): State<Arc<Api>>) -> Json<Vec<DeviceView>> {
    Json((api.status)().devices)
}

async fn get_readings(State(api): State<Arc<Api>>, Query(query): Query<PageQuery>) -> Response {
    match readings::page(&api.store, &api.kit, &query).await {
        Ok(page) => Json(page).into_response(),
        Err(error @ PageError::Query) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        Err(error @ PageError::Store(_)) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

async fn start_assignment(State(api): State<Arc<Api>>, document: Bytes) -> Response {
    order(&api, |answer| Order::StartAssignment(document.to_vec(), answer)).await
}

async fn end_assignment(State(api): State<Arc<Api>>) -> Response {
    order(&api, Order::EndAssignment).await
}

async fn open_window(State(api): State<Arc<Api>>, Json(query): Json<WindowQuery>) -> Response {
    let now = api.clock.now();
    match api.windows.open(&query.device, now, query.seconds) {
        Ok(()) => view_of_window(&api, &query.device),
        Err(error @ NoWindow::Span) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        Err(error @ (NoWindow::NotNeeded(_) | NoWindow::Open(_))) => (StatusCode::CONFLICT, error.to_string()).into_response(),
    }
}

async fn look_at_window(State(api): State<Arc<Api>>, Json(query): Json<WindowQuery>) -> Response {
    view_of_window(&api, &query.device)
}

async fn close_window(State(api): State<Arc<Api>>, Json(query): Json<WindowQuery>) -> Response {
    api.windows.close(&query.device);
    view_of_window(&api, &query.device)
}

fn view_of_window(api: &Api, device: &str) -> Response {
    let view: Option<WindowView> = api.windows.view(device, api.clock.now());
    match view {
        Some(view) => Json(view).into_response(),
        None => (StatusCode::NOT_FOUND, "no measurement window was opened since the agent started").into_response(),
    }
}

async fn order(api: &Api, make: impl FnOnce(oneshot::Sender<Result<String, String>>) -> Order) -> Response {
    let (answer, answered) = oneshot::channel();
    let stopping =
        || (StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping; try again when it runs".to_string()).into_response();
    if api.orders.send(make(answer)).await.is_err() {
        return stopping();
    }
    match answered.await {
        Ok(Ok(done)) => (StatusCode::OK, done).into_response(),
        Ok(Err(refused)) => (StatusCode::CONFLICT, refused).into_response(),
        Err(_) => stopping(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_taken_over_from_a_killed_agent_and_from_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("run").join("agent.sock");
        let running = listen(&socket).await.unwrap();
        assert_eq!(listen(&socket).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(UnixStream::connect(&socket).await.is_ok(), "the one that runs is left alone");
        drop(running);
        assert!(socket.exists(), "as a kill leaves it");
        listen(&socket).await.unwrap();
        assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
