//! Client of the admin socket: what the verbs of the command line call.
//!
//! One connection per call. An error of the daemon comes back as its own words.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::UnixStream;

use super::{CreateToken, CreatedToken, ImportModel, ImportedModel, ROOT, Status, TokenList};
use crate::gateway::TokenId;

/// Why a call had no result.
#[derive(Debug, thiserror::Error)]
pub enum CallAdminError {
    /// Nobody answers at the socket.
    #[error("cannot reach the daemon at {path}: is `edgeward serve` running, and may you open it?")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the operating system answered.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("the daemon's answer broke off")]
    Http(#[source] hyper::Error),
    /// The daemon refused.
    #[error("{message} ({error_code}, HTTP {status})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The code, as in the REST API.
        error_code: String,
        /// What the daemon says.
        message: String,
    },
    /// The answer is not what this version of the client knows.
    #[error("the daemon's answer cannot be read")]
    Answer(#[source] serde_json::Error),
    /// The call cannot be written.
    #[error("the call cannot be written")]
    Call(#[source] hyper::http::Error),
}

/// The daemon behind an admin socket.
#[derive(Clone, Debug)]
pub struct AdminClient {
    socket: PathBuf,
}

#[derive(Deserialize)]
struct ErrorBody {
    error_code: String,
    message: String,
}

impl AdminClient {
    /// The daemon that listens at `socket`.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// How the daemon stands.
    ///
    /// # Errors
    /// [`CallAdminError`].
    pub async fn status(&self) -> Result<Status, CallAdminError> {
        self.get("/status").await
    }

    /// Makes a token.
    ///
    /// # Errors
    /// [`CallAdminError`].
    pub async fn create_token(&self, token: &CreateToken) -> Result<CreatedToken, CallAdminError> {
        self.call(Method::POST, "/tokens", Some(token)).await
    }

    /// All tokens, oldest first.
    ///
    /// # Errors
    /// [`CallAdminError`].
    pub async fn tokens(&self) -> Result<TokenList, CallAdminError> {
        self.get("/tokens").await
    }

    /// Ends a token.
    ///
    /// # Errors
    /// [`CallAdminError`].
    pub async fn revoke_token(&self, id: &TokenId) -> Result<(), CallAdminError> {
        let path = format!("/tokens/{id}");
        let _: Value = self.call::<Value, _>(Method::DELETE, &path, None).await?;
        Ok(())
    }

    /// Imports a model that lies on the daemon's machine.
    ///
    /// # Errors
    /// [`CallAdminError`].
    pub async fn import_model(&self, model: &ImportModel) -> Result<ImportedModel, CallAdminError> {
        self.call(Method::POST, "/models", Some(model)).await
    }

    /// Seals every open row segment.
    ///
    /// # Errors
    /// [`CallAdminError`].
    pub async fn seal_logs(&self) -> Result<Value, CallAdminError> {
        self.call::<Value, _>(Method::POST, "/logs/seal", None)
            .await
    }

    /// Reads any route, such as `/models`, `/endpoints`, `/endpoints/{name}` or `/logs/verify`.
    ///
    /// # Errors
    /// [`CallAdminError`].
    pub async fn get<T: DeserializeOwned>(&self, route: &str) -> Result<T, CallAdminError> {
        self.call::<Value, T>(Method::GET, route, None).await
    }

    /// Sends a request to a route that answers `POST`.
    ///
    /// # Errors
    /// [`CallAdminError`].
    pub async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        route: &str,
        body: &B,
    ) -> Result<T, CallAdminError> {
        self.call(Method::POST, route, Some(body)).await
    }

    async fn call<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        route: &str,
        body: Option<&B>,
    ) -> Result<T, CallAdminError> {
        let body = body
            .map(serde_json::to_vec)
            .transpose()
            .map_err(CallAdminError::Answer)?
            .unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(format!("{ROOT}{route}"))
            .header(HOST, "edgeward")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(CallAdminError::Call)?;
        let (status, bytes) = self.exchange(request).await?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(CallAdminError::Answer);
        }
        let refused: ErrorBody = serde_json::from_slice(&bytes).map_err(CallAdminError::Answer)?;
        Err(CallAdminError::Refused {
            status: status.as_u16(),
            error_code: refused.error_code,
            message: refused.message,
        })
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), CallAdminError> {
        let stream = UnixStream::connect(&self.socket).await;
        let stream = stream.map_err(|source| CallAdminError::Connect {
            path: self.socket.clone(),
            source,
        })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(CallAdminError::Http)?;
        let answer = async move {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            Ok((status, answer.into_body().collect().await?.to_bytes()))
        };
        // The connection runs beside the call and ends with it; the call has the error, if any.
        let (answer, _) = tokio::join!(answer, connection);
        answer.map_err(CallAdminError::Http)
    }
}
