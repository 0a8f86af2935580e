//! The floor: what a request costs when somebody writes the scorer by hand.
//!
//! hyper, `serde_json` and one logistic regression over the columns of `main.default.fraud`, with
//! nothing around it: no token, no split, no row, no signature. It prints its address and serves
//! until it is killed.

use std::convert::Infallible;
use std::io::Write;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;

#[derive(Deserialize)]
struct Body {
    dataframe_records: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    amount: f32,
    merchant_category: String,
    hour: i64,
    #[serde(default)]
    is_foreign: Option<bool>,
}

fn score(row: &Row) -> f32 {
    let category = match row.merchant_category.as_str() {
        "online" => 0.9,
        "travel" => 0.6,
        "grocery" => -0.8,
        _ => 0.0,
    };
    #[expect(clippy::cast_precision_loss, reason = "an hour of the day")]
    let hour = (row.hour as f32 - 12.0) / 6.9;
    let foreign = if row.is_foreign == Some(true) {
        1.1
    } else {
        0.0
    };
    let logit = (row.amount - 20_000.0) / 15_000.0 + category - 0.3 * hour + foreign - 2.0;
    1.0 / (1.0 + (-logit).exp())
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let bytes = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return Ok(refusal()),
    };
    let Ok(body) = serde_json::from_slice::<Body>(&bytes) else {
        return Ok(refusal());
    };
    let predictions: Vec<f32> = body.dataframe_records.iter().map(score).collect();
    let reply = serde_json::json!({ "predictions": predictions }).to_string();
    Ok(Response::builder()
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(reply)))
        .unwrap_or_else(|_| refusal()))
}

fn refusal() -> Response<Full<Bytes>> {
    let mut refusal = Response::new(Full::new(Bytes::from_static(b"bad request")));
    *refusal.status_mut() = hyper::StatusCode::BAD_REQUEST;
    refusal
}

#[expect(clippy::disallowed_methods, reason = "the floor has no task list")]
#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "http://{}", listener.local_addr()?)?;
    out.flush()?;
    drop(out);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await;
            drop(served);
        });
    }
}
