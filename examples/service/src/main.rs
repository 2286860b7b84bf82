//! A small HTTP service around a classifier: `cargo run --release -p tallow-service -- MODEL [ADDRESS]`
//!
//! `POST /` takes an image file and answers with the most probable classes as JSON:
//! `curl --data-binary @photo.jpg http://127.0.0.1:8080/`

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Router, serve};
use serde_json::json;
use tallow::Classifier;

/// No image is larger.
const MOST_BYTES: usize = 32 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().ok_or("usage: tallow-service MODEL [ADDRESS]")?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".into());
    let classifier = Classifier::from_pretrained(model)?.top_k(3);
    // A clone of the classifier is a handle on the same weights: every request gets one.
    let app = Router::new().route("/", post(classify)).layer(DefaultBodyLimit::max(MOST_BYTES)).with_state(classifier);
    tokio::runtime::Builder::new_multi_thread().enable_io().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await?;
        println!("http://{}/", listener.local_addr()?);
        Ok(serve(listener, app).await?)
    })
}

async fn classify(State(classifier): State<Classifier>, image: Bytes) -> impl IntoResponse {
    // The model computes for a while, on a thread that no other request waits for.
    let predicted = tokio::task::spawn_blocking(move || classifier.predict(&image[..])).await;
    let (status, answer) = match predicted {
        Ok(Ok(predictions)) => {
            let classes = predictions.iter().flat_map(|prediction| &prediction.classes);
            let classes = classes.map(|class| json!({ "label": class.label, "probability": class.probability }));
            (StatusCode::OK, json!({ "classes": classes.collect::<Vec<_>>() }))
        }
        Ok(Err(error)) => (StatusCode::UNPROCESSABLE_ENTITY, json!({ "error": error.to_string() })),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, json!({ "error": error.to_string() })),
    };
    (status, [(header::CONTENT_TYPE, "application/json")], answer.to_string())
}
