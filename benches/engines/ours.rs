//! Our engine as a process that takes turns, like those of `peers.py`.

use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use edgeward_base::digest::Digest;
use edgeward_benches::load::timed;
use edgeward_benches::recorded::extents;
use edgeward_kernels::engine::{ModelFile, ModelForm, Session};
use edgeward_kernels::team::Team;
use edgeward_kernels::tensor::{Tensor, TensorData};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// The word on the command line that makes this program such a process.
pub(crate) const WORD: &str = "ours";

/// Loads a model, says so, and takes turns until its input ends. `arguments` are those of `peers.py`.
pub(crate) fn serve(arguments: &[String]) {
    let [threads, model, inputs] = arguments else {
        panic!("ours THREADS MODEL INPUTS");
    };
    let threads: usize = threads.parse().unwrap_or(1);
    let text = std::fs::read(inputs).unwrap_or_else(|error| panic!("{inputs}: {error}"));
    let given: Value =
        serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{inputs}: {error}"));
    let model = ModelFile {
        path: model.into(),
        digest: Digest::of_file(Path::new(model))
            .unwrap_or_else(|error| panic!("{model}: {error}")),
        form: ModelForm::Onnx,
        text: None,
    };
    edgeward_kernels::memory::keep();
    let (before, used) = (resident_kib(), processor());
    let ready = loaded(&model, &given);
    let (took, memory) = (processor() - used, resident_kib().saturating_sub(before));
    match ready {
        Ok((session, inputs)) => {
            say(&json!({"ms": took.as_secs_f64() * 1e3, "kib": memory}));
            in_turns(threads, session.as_ref(), &inputs);
        }
        Err(reason) => say(&json!({"no": reason})),
    }
}

/// Takes a turn for every line that comes, on `threads` threads.
fn in_turns(threads: usize, session: &dyn Session, inputs: &[Tensor]) {
    let team = Arc::new(Team::new(threads, Team::WORTH, |_| {}));
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| team.attend(|| false));
        }
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let seconds = line.parse().unwrap_or_default();
            say(&team.lead(|| turn(session, inputs, seconds)));
        }
        team.close();
    });
}

/// The session, having run once, and its inputs.
fn loaded(model: &ModelFile, given: &Value) -> Result<(Arc<dyn Session>, Vec<Tensor>), String> {
    let engines = edgeward_kernels::engines();
    let engine = engines
        .iter()
        .find(|engine| engine.takes(model.form))
        .ok_or("no engine takes ONNX")?;
    let session =
        edgeward_kernels::load(engine.as_ref(), model).map_err(|error| error.to_string())?;
    let inputs = session
        .inputs()
        .iter()
        .map(|spec| tensor(&given[&spec.name]));
    let inputs: Vec<Tensor> = inputs.collect();
    session.run(&inputs).map_err(|error| error.to_string())?;
    Ok((session, inputs))
}

fn tensor(input: &Value) -> Tensor {
    let data = input["data"].as_array().into_iter().flatten();
    let data = match input["dtype"].as_str().unwrap_or_default() {
        "string" => TensorData::String(
            data.map(|text| text.as_str().unwrap_or_default().to_owned())
                .collect(),
        ),
        "int64" => TensorData::I64(data.filter_map(Value::as_i64).collect()),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "written from numbers of this type"
        )]
        "float32" => TensorData::F32(
            data.map(|number| number.as_f64().unwrap_or(f64::NAN) as f32)
                .collect(),
        ),
        other => panic!("no recorded input is of {other}"),
    };
    Tensor::new(extents(input), data).unwrap_or_else(|error| panic!("{error}"))
}

/// The least microseconds of a call, and microseconds of CPU per call.
fn turn(session: &dyn Session, inputs: &[Tensor], seconds: f64) -> Value {
    let (mut least, mut all, mut calls) = (f64::INFINITY, 0.0, 0_u32);
    let used = processor();
    while calls < 3 || all < seconds {
        let (took, answer) = timed(|| session.run(inputs));
        answer.unwrap_or_else(|error| panic!("{error}"));
        least = least.min(took.as_secs_f64());
        all += took.as_secs_f64();
        calls += 1;
    }
    let cpu = (processor() - used) / calls;
    json!({"wall": least * 1e6, "cpu": cpu.as_secs_f64() * 1e6})
}

/// CPU time of this process, of all its threads.
fn processor() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or_default()
}

fn say(answer: &Value) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{answer}")
        .and_then(|()| out.flush())
        .unwrap_or_else(|error| panic!("standard output: {error}"));
}
