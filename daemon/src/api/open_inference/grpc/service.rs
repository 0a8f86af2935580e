//! Every call that is no inference: one message in, one out.

use std::time::Duration;

use bytes::Bytes;
use edgeward_base::units::ByteCount;
use edgeward_kernels::tensor::TensorSpec;
use hyper::StatusCode;
use hyper::http::request::Parts;
use prost::Message;

use super::super::datatype::Datatype;
use super::super::models::{self, Counted, EXTENSIONS, Found};
use super::super::tensors::extents_of;
use super::frames::{Messages, ReadMessageError, frame};
use super::messages::model_metadata_response::TensorMetadata;
use super::messages::repository_index_response::ModelIndex;
use super::messages::{
    DataType, InferStatistics, ModelConfig, ModelConfigRequest, ModelConfigResponse, ModelInput,
    ModelMetadataRequest, ModelMetadataResponse, ModelOutput, ModelReadyRequest,
    ModelReadyResponse, ModelStatistics, ModelStatisticsRequest, ModelStatisticsResponse,
    RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest,
    RepositoryModelLoadResponse, RepositoryModelUnloadRequest, RepositoryModelUnloadResponse,
    ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse, ServerReadyResponse,
    StatisticDuration,
};
use super::{SERVICE, Terms, within};
use crate::api::body::ReadBodyError;
use crate::api::error::ApiError;
use crate::api::{MANAGEMENT_BODY_TIME, Services, auth};
use crate::gateway::Caller;
use crate::serving::Tally;

/// The longest message of these calls. One of REST may be longer: what stands in these are names and
/// parameters, of which two bytes on the wire become fifty, and they are decoded on the call's thread.
const MOST_BYTES: ByteCount = ByteCount::kib(64);

/// Calls of the service that are not answered, and why.
const UNIMPLEMENTED: [(&str, &str); 8] = [
    ("SystemSharedMemoryStatus", SHARED_MEMORY),
    ("SystemSharedMemoryRegister", SHARED_MEMORY),
    ("SystemSharedMemoryUnregister", SHARED_MEMORY),
    ("CudaSharedMemoryStatus", SHARED_MEMORY),
    ("CudaSharedMemoryRegister", SHARED_MEMORY),
    ("CudaSharedMemoryUnregister", SHARED_MEMORY),
    ("TraceSetting", "tracing is not set by clients"),
    ("LogSettings", "logs are the configuration's to set"),
];
const SHARED_MEMORY: &str = "tensors come in messages, not through shared memory";

/// Answers a call, framed.
pub(super) async fn answer(
    services: &Services,
    head: &Parts,
    messages: &mut Messages,
) -> Result<Bytes, ApiError> {
    let name = head.uri.path().strip_prefix(SERVICE).unwrap_or_default();
    match name {
        // Asked by probes, which have no token.
        "ServerLive" => return Ok(frame(&ServerLiveResponse { live: true }, None)),
        "ServerReady" => {
            let ready = models::ready(services);
            return Ok(frame(&ServerReadyResponse { ready }, None));
        }
        _ => {}
    }
    let call = Asked {
        caller: auth::authenticate(&head.headers, &services.tokens)?,
        terms: Terms::of(&head.headers)?,
        services,
        messages,
    };
    let deadline = call.terms.deadline;
    let answered = async {
        match name {
            "ModelReady" => call.ready().await,
            "ServerMetadata" => call.server().await,
            "ModelMetadata" => call.metadata().await,
            "ModelConfig" => call.config().await,
            "ModelStatistics" => call.statistics().await,
            "RepositoryIndex" => call.index().await,
            "RepositoryModelLoad" => call.load().await,
            "RepositoryModelUnload" => call.unload().await,
            _ => Err(unimplemented(head.uri.path(), name)),
        }
    };
    within(deadline, answered).await
}

fn unimplemented(path: &str, name: &str) -> ApiError {
    let known = UNIMPLEMENTED.iter().find(|(known, _)| *known == name);
    known.map_or_else(
        || ApiError::no_route(path),
        |(name, why)| ApiError::not_implemented(format!("{name} is not answered: {why}")),
    )
}

/// A call by somebody with a token.
struct Asked<'s> {
    services: &'s Services,
    caller: Caller,
    terms: Terms,
    messages: &'s mut Messages,
}

impl Asked<'_> {
    /// Reads the one message.
    async fn read<M: Message + Default>(&mut self) -> Result<M, ApiError> {
        let mut permit = self.services.serving.admission().admit(0)?;
        let (encoding, waited): (_, Duration) = (self.terms.encoding, MANAGEMENT_BODY_TIME);
        let messages = &mut *self.messages;
        let message = async {
            let message = messages.next(encoding, MOST_BYTES, &mut permit).await?;
            messages.end().await?;
            Ok::<_, ReadMessageError>(message)
        };
        let message = tokio::time::timeout(waited, message)
            .await
            .unwrap_or(Err(ReadBodyError::TimedOut { waited }.into()))?;
        let message = message.ok_or_else(|| ApiError::bad_request("the call has no message"))?;
        M::decode(message)
            .map_err(|error| ApiError::bad_request(format!("the message cannot be read: {error}")))
    }

    fn find(&self, name: &str, version: &str) -> Result<Found, ApiError> {
        let version = Some(version).filter(|version| !version.is_empty());
        Found::of(self.services, &self.caller, name, version)
    }

    async fn ready(mut self) -> Result<Bytes, ApiError> {
        let asked: ModelReadyRequest = self.read().await?;
        let ready = match self.find(&asked.name, &asked.version) {
            Ok(_) => true,
            // Not there, or not there yet: over HTTP a status, here a field.
            Err(error)
                if matches!(
                    error.status,
                    StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST
                ) =>
            {
                false
            }
            Err(error) => return Err(error),
        };
        Ok(frame(&ModelReadyResponse { ready }, None))
    }

    async fn server(mut self) -> Result<Bytes, ApiError> {
        let _: ServerMetadataRequest = self.read().await?;
        let server = ServerMetadataResponse {
            name: "edgeward".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: EXTENSIONS.map(str::to_owned).to_vec(),
        };
        Ok(frame(&server, None))
    }

    async fn metadata(mut self) -> Result<Bytes, ApiError> {
        let asked: ModelMetadataRequest = self.read().await?;
        let found = self.find(&asked.name, &asked.version)?;
        let first = found.first()?;
        let tensors = |specs: &[TensorSpec]| -> Vec<TensorMetadata> {
            let tensor = |spec: &TensorSpec| TensorMetadata {
                name: spec.name.clone(),
                datatype: Datatype::name(spec.data_type).to_owned(),
                shape: extents_of(spec),
            };
            specs.iter().map(tensor).collect()
        };
        let metadata = ModelMetadataResponse {
            name: found.endpoint.name.to_string(),
            versions: found.versions(),
            platform: first.scorer.engine().to_owned(),
            inputs: tensors(first.scorer.session().inputs()),
            outputs: tensors(first.scorer.session().outputs()),
        };
        Ok(frame(&metadata, None))
    }

    async fn config(mut self) -> Result<Bytes, ApiError> {
        let asked: ModelConfigRequest = self.read().await?;
        let found = self.find(&asked.name, &asked.version)?;
        let first = found.first()?;
        let data_type = |spec: &TensorSpec| {
            let name = format!("TYPE_{}", models::type_name(spec));
            DataType::from_str_name(&name).unwrap_or_default().into()
        };
        let inputs = first.scorer.session().inputs().iter();
        let outputs = first.scorer.session().outputs().iter();
        let config = ModelConfig {
            name: found.endpoint.name.to_string(),
            platform: first.scorer.engine().to_owned(),
            backend: first.scorer.engine().to_owned(),
            max_batch_size: 0,
            input: inputs
                .map(|spec| ModelInput {
                    name: spec.name.clone(),
                    data_type: data_type(spec),
                    dims: extents_of(spec),
                })
                .collect(),
            output: outputs
                .map(|spec| ModelOutput {
                    name: spec.name.clone(),
                    data_type: data_type(spec),
                    dims: extents_of(spec),
                })
                .collect(),
        };
        let config = Some(config);
        Ok(frame(&ModelConfigResponse { config }, None))
    }

    async fn statistics(mut self) -> Result<Bytes, ApiError> {
        let asked: ModelStatisticsRequest = self.read().await?;
        let all = if asked.name.is_empty() {
            models::all_statistics(self.services, &self.caller)
        } else {
            let found = self.find(&asked.name, &asked.version)?;
            found.statistics(self.services)
        };
        let model_stats = all.iter().map(counted).collect();
        Ok(frame(&ModelStatisticsResponse { model_stats }, None))
    }

    async fn index(mut self) -> Result<Bytes, ApiError> {
        let asked: RepositoryIndexRequest = self.read().await?;
        one_repository(&asked.repository_name)?;
        let listed = models::index(self.services, &self.caller, asked.ready).into_iter();
        let models = listed
            .map(|listed| ModelIndex {
                name: listed.name.to_string(),
                version: listed.version.to_string(),
                state: listed.state.to_owned(),
                reason: listed.reason,
            })
            .collect();
        Ok(frame(&RepositoryIndexResponse { models }, None))
    }

    async fn load(mut self) -> Result<Bytes, ApiError> {
        let asked: RepositoryModelLoadRequest = self.read().await?;
        one_repository(&asked.repository_name)?;
        if !asked.parameters.is_empty() {
            return Err(models::own_configuration());
        }
        models::load(self.services, &self.caller, &asked.model_name).await?;
        Ok(frame(&RepositoryModelLoadResponse {}, None))
    }

    async fn unload(mut self) -> Result<Bytes, ApiError> {
        let asked: RepositoryModelUnloadRequest = self.read().await?;
        one_repository(&asked.repository_name)?;
        let other = asked
            .parameters
            .keys()
            .find(|name| *name != models::UNLOAD_DEPENDENTS);
        if let Some(other) = other {
            let other: String = other.chars().take(80).collect();
            return Err(ApiError::bad_request(format!(
                "parameters: {other:?}: unload_dependents is known"
            )));
        }
        models::unload(self.services, &self.caller, &asked.model_name).await?;
        Ok(frame(&RepositoryModelUnloadResponse {}, None))
    }
}

fn one_repository(name: &str) -> Result<(), ApiError> {
    if name.is_empty() {
        return Ok(());
    }
    Err(ApiError::bad_request(
        "repository_name must be empty: there is one repository",
    ))
}

fn counted(
    Counted {
        name,
        version,
        counts,
    }: &Counted,
) -> ModelStatistics {
    let tally = |tally: Tally| {
        Some(StatisticDuration {
            count: tally.count,
            ns: tally.micros.saturating_mul(1_000),
        })
    };
    ModelStatistics {
        name: name.to_string(),
        version: version.to_string(),
        last_inference: u64::try_from(counts.last_millis).unwrap_or_default(),
        inference_count: counts.rows,
        execution_count: counts.executions,
        inference_stats: Some(InferStatistics {
            success: tally(counts.success),
            fail: tally(counts.fail),
            queue: tally(counts.queue),
            compute_input: tally(counts.input),
            compute_infer: tally(counts.infer),
            compute_output: tally(counts.output),
            cache_hit: tally(Tally::default()),
            cache_miss: tally(Tally::default()),
        }),
    }
}
