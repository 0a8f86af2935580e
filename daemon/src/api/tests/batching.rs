//! Requests that are answered together, and models that go while nobody asks.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edgeward_base::clock::{Clock as _, SystemClock};
use edgeward_base::units::ByteCount;
use edgeward_kernels::engine::{Rows, RunModelError, Session};
use edgeward_kernels::tensor::{DataType, Tensor, TensorSpec};
use edgeward_kernels::verify::{Verdict, Verified};
use futures_util::future::join_all;
use hyper::Method;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::stack::{Answer, ENDPOINTS, PATIENCE, Stack, Wanted, fraud, transaction};
use crate::config::BatchingConfig;
use crate::model::{Scorer, Signature};

/// What a run takes at least: more than one that may hold a request's thread.
const RUN: Duration = Duration::from_millis(1);

/// A model `y = x` whose runs take a while, wait for leave, and are noted by their rows and threads.
#[derive(Debug)]
struct Slow {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    runs: Arc<Mutex<Vec<usize>>>,
    leave: Arc<Semaphore>,
    threads: Arc<Mutex<BTreeSet<String>>>,
    independent: Rows,
    device: bool,
}

impl Session for Slow {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunModelError> {
        self.runs.lock().unwrap().push(inputs[0].rows().unwrap());
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        self.threads.lock().unwrap().insert(thread);
        let clock = SystemClock::new();
        let until = clock.monotonic() + RUN;
        loop {
            if let (true, Ok(leave)) = (clock.monotonic() > until, self.leave.try_acquire()) {
                leave.forget();
                return Ok(inputs.to_vec());
            }
            std::thread::yield_now();
        }
    }

    fn permit_rows(&self, _: Rows) {}

    fn rows(&self) -> Rows {
        self.independent
    }

    fn resident(&self) -> ByteCount {
        ByteCount(1)
    }

    fn on_device(&self) -> Option<ByteCount> {
        self.device.then_some(ByteCount(1))
    }
}

/// A stack that serves [`Slow`] as `slow` on one thread, after its first requests.
struct SlowStack {
    stack: Stack,
    runs: Arc<Mutex<Vec<usize>>>,
    threads: Arc<Mutex<BTreeSet<String>>>,
    leave: Arc<Semaphore>,
}

/// Requests after which it is known that runs take long.
const FIRST: u32 = 10;

impl SlowStack {
    async fn start(independent: Rows, batching: Vec<BatchingConfig>) -> Self {
        Self::start_on(false, independent, batching).await
    }

    async fn start_on(device: bool, independent: Rows, batching: Vec<BatchingConfig>) -> Self {
        let spec = |name: &str| TensorSpec {
            name: name.to_owned(),
            data_type: DataType::F64,
            shape: vec![None, Some(1)],
        };
        let (runs, threads, leave) = (Arc::default(), Arc::default(), Arc::new(Semaphore::new(10)));
        let session = Slow {
            inputs: vec![spec("x")],
            outputs: vec![spec("y")],
            runs: Arc::clone(&runs),
            threads: Arc::clone(&threads),
            leave: Arc::clone(&leave),
            independent,
            device,
        };
        let signature = Signature::derive(&session.inputs, &session.outputs);
        let verdict = Verdict {
            verified: Verified::Framework,
            rows: independent,
        };
        let model = "main.default.slow-model/1".parse().unwrap();
        let scorer = Scorer::bind(model, "test", verdict, signature, Arc::new(session)).unwrap();
        let mut wanted = Wanted {
            scorers: vec![Arc::new(scorer)],
            samples: &["main.default.fraud/3"],
            ..Wanted::default()
        };
        wanted.limits.threads = 1;
        wanted.limits.device = device;
        wanted.limits.batching = batching;
        let stack = Stack::with(wanted).await;
        let body = json!({"name": "slow", "config": {
            "served_entities": [{"entity_name": "main.default.slow-model", "entity_version": "1"}],
            "auto_capture_config": {"catalog_name": "main", "schema_name": "default"},
        }});
        let created = stack.send(Method::POST, ENDPOINTS, &body).await;
        assert_eq!(created.status, 200, "{created:?}");
        let slow = Self {
            stack,
            runs,
            threads,
            leave,
        };
        for number in 0..FIRST {
            slow.ask(number).await;
        }
        slow.stack.rows();
        slow.runs.lock().unwrap().clear();
        slow
    }

    async fn ask(&self, number: u32) -> Answer {
        let path = "/serving-endpoints/slow/invocations";
        let body = json!({"inputs": {"x": [[number]]}});
        let answer = self.stack.send(Method::POST, path, &body).await;
        let predicted = &answer.json()["predictions"]["y"][0][0];
        assert_eq!(predicted.as_f64(), Some(f64::from(number)), "{answer:?}");
        answer
    }

    /// Asks once, and eight times more while that one runs; then lets all go.
    async fn ask_nine(&self) -> Vec<usize> {
        let others = async {
            let serving = &self.stack.services.serving;
            let waiting = join_all((1..9).map(|number| self.ask(number)));
            let all_wait = async {
                while self.runs.lock().unwrap().is_empty() || serving.waiting() < 8 {
                    tokio::task::yield_now().await;
                }
                self.leave.add_permits(9);
            };
            tokio::time::timeout(PATIENCE, async { tokio::join!(waiting, all_wait) })
                .await
                .expect("eight requests wait");
        };
        tokio::join!(self.ask(0), others);
        self.runs.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn requests_that_wait_are_answered_together_each_with_its_own() {
    let slow = SlowStack::start(Rows::Independent, Vec::new()).await;
    let runs = slow.ask_nine().await;
    // The first two alone: then it is known what one takes, and what four take is tried. The three that
    // are left are too few to be tried together.
    assert_eq!(runs, [1, 1, 4, 1, 1, 1]);
    let rows = slow.stack.rows();
    assert_eq!(rows.len(), 9);
    assert!(rows.iter().all(|(_, row)| row.status_code == 200));
    assert!(
        rows.iter()
            .all(|(_, row)| row.execution_duration_us >= 1_000)
    );
    let stats = slow.stack.get("/v2/models/slow/stats").await.json();
    let stats = &stats["model_stats"][0];
    assert_eq!(stats["inference_count"], FIRST + 9);
    assert_eq!(stats["execution_count"], 10 + runs.len());
    slow.stack.stop().await;
}

#[tokio::test]
async fn rows_that_may_influence_one_another_are_computed_alone() {
    let slow = SlowStack::start(Rows::Together, Vec::new()).await;
    assert_eq!(slow.ask_nine().await, [1; 9]);
    slow.stack.stop().await;
}

#[tokio::test]
async fn an_endpoint_can_have_each_request_answered_alone() {
    let alone = BatchingConfig {
        endpoint: "slow".parse().unwrap(),
        requests: 1,
        delay: Duration::ZERO,
    };
    let slow = SlowStack::start(Rows::Independent, vec![alone]).await;
    assert_eq!(slow.ask_nine().await, [1; 9]);
    slow.stack.stop().await;
}

#[tokio::test]
async fn a_device_has_a_thread_of_its_own_which_batches_and_holds_no_other() {
    let slow = SlowStack::start_on(true, Rows::Independent, Vec::new()).await;
    // What one alone takes is known from the first requests, so four are tried at once.
    assert_eq!(slow.ask_nine().await, [1, 4, 4]);
    let created = slow.stack.send(Method::POST, ENDPOINTS, &fraud()).await;
    assert_eq!(created.status, 200, "{created:?}");
    slow.runs.lock().unwrap().clear();
    // While it computes, the one thread of the processor answers for others.
    let others = async {
        while slow.runs.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let path = "/serving-endpoints/fraud/invocations";
        for _ in 0..=FIRST {
            let answer = slow.stack.send(Method::POST, path, &transaction()).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        slow.leave.add_permits(1);
    };
    let both = async { tokio::join!(slow.ask(0), others) };
    tokio::time::timeout(PATIENCE, both).await.unwrap();
    // A body that cannot be read never gets to the device.
    let path = "/serving-endpoints/slow/invocations";
    let refused = json!({"inputs": {"x": "nothing"}});
    let refused = slow.stack.send(Method::POST, path, &refused).await;
    assert_eq!(refused.status, 400, "{refused:?}");
    let threads = slow.threads.lock().unwrap().clone();
    assert_eq!(threads, BTreeSet::from(["device/0".to_owned()]));
    slow.stack.stop().await;
}

/// A stack whose models go at once when nobody asks.
async fn short_of_memory() -> Stack {
    let mut wanted = Wanted::default();
    wanted.limits.scale_to_zero_after = Duration::from_millis(8);
    Stack::with(wanted).await
}

async fn message(stack: &Stack) -> Value {
    let endpoint = stack.get(&format!("{ENDPOINTS}/fraud")).await.json();
    assert_eq!(endpoint["state"]["ready"], "READY", "{endpoint}");
    let served = &endpoint["config"]["served_entities"][0];
    assert_eq!(served["state"]["deployment"], "DEPLOYMENT_READY");
    served["state"]["deployment_state_message"].clone()
}

async fn at_zero(stack: &Stack) {
    let scaled = async {
        while message(stack).await != "Scaled to zero" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, scaled).await.unwrap();
}

#[tokio::test]
async fn a_model_nobody_asks_goes_and_the_next_request_brings_it_back() {
    let stack = short_of_memory().await;
    let mut wanted = fraud();
    wanted["config"]["served_entities"][0]["scale_to_zero_enabled"] = json!(true);
    let created = stack.send(Method::POST, ENDPOINTS, &wanted).await;
    assert_eq!(created.status, 200, "{created:?}");
    let path = "/serving-endpoints/fraud/invocations";
    let first = stack.send(Method::POST, path, &transaction()).await;
    assert_eq!(first.status, 200, "{first:?}");
    for _ in 0..3 {
        at_zero(&stack).await;
        // What a client may ask of a model needs no weights.
        let metadata = stack.get("/v2/models/fraud").await;
        assert_eq!(
            metadata.json()["inputs"][0]["name"],
            "amount",
            "{metadata:?}"
        );
        assert_eq!(message(&stack).await, "Scaled to zero");
        let again = stack.send(Method::POST, path, &transaction()).await;
        assert_eq!((again.status, &again.body), (200, &first.body));
    }
    let rows = stack.rows();
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|(_, row)| row.status_code == 200));
    stack.stop().await;
}

#[tokio::test]
async fn a_model_stays_while_one_of_its_served_entities_does_not_scale_to_zero() {
    let stack = short_of_memory().await;
    let mut wanted = fraud();
    let entity = |name: &str, scales: bool| {
        json!({"name": name, "entity_name": "main.default.fraud", "entity_version": "3",
               "scale_to_zero_enabled": scales})
    };
    wanted["config"]["served_entities"] = json!([entity("stays", false), entity("goes", true)]);
    wanted["config"]["traffic_config"] = json!({"routes": [
        {"served_entity_name": "stays", "traffic_percentage": 50},
        {"served_entity_name": "goes", "traffic_percentage": 50},
    ]});
    let created = stack.send(Method::POST, ENDPOINTS, &wanted).await;
    assert_eq!(created.status, 200, "{created:?}");
    // Another model comes and goes meanwhile.
    let other = json!({"name": "other", "config": {"served_entities": [
        {"entity_name": "main.default.fraud", "entity_version": "4", "scale_to_zero_enabled": true},
    ]}});
    let created = stack.send(Method::POST, ENDPOINTS, &other).await;
    assert_eq!(created.status, 200, "{created:?}");
    let snapshot = stack.services.endpoints.snapshot();
    let scorer = |endpoint: &str| {
        let routed = snapshot.endpoint(endpoint).unwrap();
        Arc::clone(&routed.entities()[0].scorer)
    };
    let (stays, goes) = (scorer("fraud"), scorer("other"));
    let gone = async {
        while !goes.is_at_zero() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    assert!(!stays.is_at_zero());
    stack.stop().await;
}

#[tokio::test]
async fn a_change_that_keeps_a_model_wakes_it_before_it_is_applied() {
    let stack = Stack::serving_fraud().await;
    let unload = "/v2/repository/models/fraud/unload";
    let unloaded = stack.send(Method::POST, unload, &json!({})).await;
    assert_eq!(
        (unloaded.status, message(&stack).await),
        (200, json!("Scaled to zero"))
    );
    let mut config = fraud()["config"].clone();
    config["served_entities"][0]["workload_size"] = json!("Large");
    let path = format!("{ENDPOINTS}/fraud/config");
    let changed = stack.send(Method::PUT, &path, &config).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_eq!(message(&stack).await, "");
    stack.stop().await;
}

#[tokio::test]
async fn a_model_that_another_endpoint_keeps_is_not_unloaded() {
    let stack = Stack::serving_fraud().await;
    let unload = "/v2/repository/models/fraud/unload";
    let alone = stack.send(Method::POST, unload, &json!({})).await;
    assert_eq!(
        (alone.status, message(&stack).await),
        (200, json!("Scaled to zero"))
    );
    let mut other = fraud();
    other["name"] = json!("other");
    let created = stack.send(Method::POST, ENDPOINTS, &other).await;
    assert_eq!(created.status, 200, "{created:?}");
    let shared = stack.send(Method::POST, unload, &json!({})).await;
    assert_eq!(shared.status, 409, "{shared:?}");
    assert_eq!(message(&stack).await, "");
    stack.stop().await;
}
