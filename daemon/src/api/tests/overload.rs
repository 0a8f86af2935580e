//! Limits, deadlines, faults and the drain, with a model that does what the test says.

use std::sync::Arc;
use std::time::Duration;

use edgeward_base::units::ByteCount;
use edgeward_kernels::engine::{Rows, RunModelError, Session};
use edgeward_kernels::tensor::{DataType, Tensor, TensorData, TensorSpec};
use edgeward_kernels::verify::{Verdict, Verified};
use hyper::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;

use super::stack::{Answer, ENDPOINTS, PATIENCE, Stack, Wanted};
use crate::model::{Scorer, Signature};

/// A model `y = x` that says when it runs, waits for leave, and fails on certain inputs.
#[derive(Debug)]
struct Gated {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    running: Arc<Semaphore>,
    leave: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
}

/// An input that makes the model panic.
const PANIC: f64 = -1.0;
/// An input that makes the model fail.
const FAIL: f64 = -2.0;

impl Session for Gated {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunModelError> {
        let TensorData::F64(values) = inputs[0].data() else {
            unreachable!()
        };
        if values.contains(&PANIC) {
            panic!("the model is broken");
        }
        if values.contains(&FAIL) {
            return Err(RunModelError::Engine {
                reason: "Unexpected error in node 7".to_owned(),
            });
        }
        self.running.add_permits(1);
        self.leave.lock().unwrap().recv().unwrap();
        Ok(inputs.to_vec())
    }

    fn permit_rows(&self, _: Rows) {}

    fn rows(&self) -> Rows {
        Rows::Together
    }

    fn resident(&self) -> ByteCount {
        ByteCount(1)
    }
}

/// A stack that serves a [`Gated`] model as `gated`, and its two handles.
struct GatedStack {
    stack: Stack,
    running: Arc<Semaphore>,
    leave: std::sync::mpsc::Sender<()>,
}

const INVOCATIONS: &str = "/serving-endpoints/gated/invocations";

fn rows(values: &[f64]) -> Value {
    json!({"inputs": {"x": values.iter().map(|value| [value]).collect::<Vec<_>>()}})
}

impl GatedStack {
    async fn start(change: impl FnOnce(&mut Wanted)) -> Self {
        let spec = |name: &str| TensorSpec {
            name: name.to_owned(),
            data_type: DataType::F64,
            shape: vec![None, Some(1)],
        };
        let (leave, gate) = std::sync::mpsc::channel();
        let running = Arc::new(Semaphore::new(0));
        let session = Gated {
            inputs: vec![spec("x")],
            outputs: vec![spec("y")],
            running: Arc::clone(&running),
            leave: std::sync::Mutex::new(gate),
        };
        let signature = Signature::derive(&session.inputs, &session.outputs);
        let verdict = Verdict {
            verified: Verified::Framework,
            rows: Rows::Together,
        };
        let model = "main.default.gated/1".parse().unwrap();
        let scorer = Scorer::bind(model, "test", verdict, signature, Arc::new(session)).unwrap();
        let mut wanted = Wanted {
            scorers: vec![Arc::new(scorer)],
            samples: &[],
            ..Wanted::default()
        };
        change(&mut wanted);
        let stack = Stack::with(wanted).await;
        let body = json!({"name": "gated", "config": {
            "served_entities": [{"entity_name": "main.default.gated", "entity_version": "1"}],
            "auto_capture_config": {"catalog_name": "main", "schema_name": "default"},
        }});
        let created = stack.send(Method::POST, ENDPOINTS, &body).await;
        assert_eq!(created.status, 200, "{created:?}");
        Self {
            stack,
            running,
            leave,
        }
    }

    async fn ask(&self, values: &[f64]) -> Answer {
        self.stack
            .send(Method::POST, INVOCATIONS, &rows(values))
            .await
    }

    async fn model_runs(&self) {
        self.running.acquire().await.unwrap().forget();
    }

    fn let_go(&self) {
        self.leave.send(()).unwrap();
    }
}

#[tokio::test]
async fn the_request_over_the_ceiling_is_told_to_come_again() {
    let gated = GatedStack::start(|wanted| wanted.limits.requests = 1).await;
    let second = async {
        gated.model_runs().await;
        gated.ask(&[2.0]).await.error(429, "RESOURCE_EXHAUSTED");
        // Management shares the ceiling; probes and the admin socket do not.
        gated
            .stack
            .get(ENDPOINTS)
            .await
            .error(429, "RESOURCE_EXHAUSTED");
        assert_eq!(
            gated.stack.raw(Method::GET, "/ping", &[], "").await.status,
            200
        );
        let status = gated.stack.admin().status().await.unwrap();
        assert_eq!(status.in_flight.requests, 1);
        gated.let_go();
    };
    let (first, ()) = tokio::join!(gated.ask(&[1.0]), second);
    assert_eq!(first.json(), json!({"predictions": {"y": [[1.0]]}}));
    let mut statuses: Vec<_> = gated.stack.rows().iter().map(|r| r.1.status_code).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 429]);
    gated.stack.stop().await;
}

#[tokio::test]
async fn bodies_that_do_not_fit_in_memory_together_are_refused_before_they_are_read() {
    let gated = GatedStack::start(|wanted| wanted.limits.bytes = ByteCount(1_000)).await;
    let long = vec![1.0; 200];
    assert!(rows(&long).to_string().len() > 1_000);
    gated.ask(&long).await.error(429, "RESOURCE_EXHAUSTED");
    assert_eq!(gated.stack.row().1.request, None);
    assert_eq!(gated.stack.services.serving.admission().bytes().0, 0);
    gated.stack.stop().await;
}

#[tokio::test]
async fn a_full_compute_queue_refuses() {
    let gated = GatedStack::start(|wanted| {
        wanted.limits.queue = 1;
        wanted.limits.threads = 1;
    })
    .await;
    let others = async {
        gated.model_runs().await;
        let waiting = gated.ask(&[2.0]);
        let refused = async {
            let serving = &gated.stack.services.serving;
            while serving.waiting() == 0 {
                tokio::task::yield_now().await;
            }
            gated.ask(&[3.0]).await.error(429, "RESOURCE_EXHAUSTED");
            gated.let_go();
            gated.let_go();
        };
        tokio::join!(waiting, refused).0
    };
    let (first, second) = tokio::join!(gated.ask(&[1.0]), others);
    assert_eq!((first.status, second.status), (200, 200));
    let rows = gated.stack.rows();
    let waited = rows.iter().find(|(_, row)| {
        row.status_code == 200 && row.request.as_ref().unwrap()[..] == rows_body(2.0)
    });
    assert!(waited.unwrap().1.queue_duration_us > 0);
    gated.stack.stop().await;
}

fn rows_body(value: f64) -> Vec<u8> {
    rows(&[value]).to_string().into_bytes()
}

#[tokio::test]
async fn a_prediction_that_takes_too_long_is_504_and_one_that_panics_is_500() {
    // Long for a prediction on a busy machine, and waited for once.
    let limit = Duration::from_secs(2);
    let gated = GatedStack::start(|wanted| wanted.limits.request_timeout = limit).await;
    gated.ask(&[1.0]).await.error(504, "DEADLINE_EXCEEDED");
    gated.let_go();
    let message = gated.ask(&[PANIC]).await.error(500, "INTERNAL_ERROR");
    assert!(!message.contains("broken"), "{message}");
    // A model that fails on rows fails on them again: no client should repeat it.
    let failed = gated.ask(&[FAIL]).await;
    let message = failed.error(400, "BAD_REQUEST");
    assert!(message.contains("node 7"), "{message}");
    assert!(!message.contains("Unexpected error"), "{message}");
    assert_eq!(failed.header("x-should-retry"), Some("false"));
    let statuses: Vec<_> = gated.stack.rows().iter().map(|r| r.1.status_code).collect();
    assert_eq!(statuses, [504, 500, 400]);
    gated.stack.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_arrive_in_time_is_the_clients_mistake() {
    let limit = Duration::from_millis(50);
    let gated = GatedStack::start(|wanted| wanted.limits.request_timeout = limit).await;
    let mut stream = gated.stack.dial().await;
    let head = format!(
        "POST {INVOCATIONS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-length: 10\r\n\r\n{{",
        gated.stack.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer)
        .await
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert_eq!(gated.stack.row().1.status_code, 408);
    gated.stack.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_is_a_row_with_status_499() {
    let gated = GatedStack::start(|_| {}).await;
    let body = rows(&[1.0]).to_string();
    let mut stream = gated.stack.dial().await;
    let request = format!(
        "POST {INVOCATIONS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-length: {}\r\n\r\n{body}",
        gated.stack.token,
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    gated.model_runs().await;
    drop(stream);
    let (_, row) = loop {
        if let Some(row) = gated.stack.rows().pop() {
            break row;
        }
        tokio::task::yield_now().await;
    };
    // Its body is still held, and so it is counted.
    let admission = gated.stack.services.serving.admission();
    assert_eq!(
        (admission.requests(), admission.bytes().0),
        (1, body.len() as u64)
    );
    gated.let_go();
    while admission.requests() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((row.status_code, row.response), (499, None));
    assert_eq!(row.request.unwrap(), body);
    gated.stack.stop().await;
}

#[tokio::test]
async fn a_drain_finishes_what_is_under_way_and_refuses_the_rest() {
    let gated = GatedStack::start(|_| {}).await;
    let serving = gated.stack.services.serving.clone();
    let drain = async {
        gated.model_runs().await;
        serving.begin_drain();
        let refused = gated.ask(&[2.0]).await;
        refused.error(503, "TEMPORARILY_UNAVAILABLE");
        assert_eq!(refused.header("connection"), Some("close"));
        let drained = tokio::time::timeout(PATIENCE, serving.drained());
        tokio::pin!(drained);
        assert!(futures_util::poll!(&mut drained).is_pending());
        gated.let_go();
        drained.await.unwrap();
    };
    let (first, ()) = tokio::join!(gated.ask(&[1.0]), drain);
    assert_eq!(first.status, 200);
    gated.stack.stop().await;
}
