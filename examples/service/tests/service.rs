//! The service answers several requests at once, and says what is wrong with what is no image.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

struct Service {
    child: Child,
    address: String,
}

impl Service {
    fn start() -> Self {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../weights/tests/references/timm");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallow-service"));
        let mut child = command.arg(model).arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("its address");
        let address = line.trim().trim_start_matches("http://").trim_end_matches('/').to_string();
        Self { child, address }
    }

    /// The status and the body of the answer to an image.
    fn post(&self, image: &[u8]) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        let head =
            format!("POST / HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", image.len());
        stream.write_all(head.as_bytes()).expect("sent");
        stream.write_all(image).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, serde_json::from_str(body).expect("JSON"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn images_are_classified_side_by_side_and_others_refused() {
    let service = Service::start();
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/references/data/photos/rgb.png");
    let image = std::fs::read(image).expect("an image");
    let (status, expected) = service.post(&image);
    assert_eq!(status, 200, "{expected}");
    let classes = expected["classes"].as_array().expect("classes");
    assert_eq!(classes.len(), 3);
    let best = classes[0]["label"].as_str().expect("a label");
    assert!(["ant", "bee", "cat", "dog", "elk"].contains(&best), "{expected}");
    std::thread::scope(|scope| {
        let requests: Vec<_> = (0..8).map(|_| scope.spawn(|| service.post(&image))).collect();
        for request in requests {
            assert_eq!(request.join().expect("no panic"), (200, expected.clone()));
        }
    });
    let (status, refused) = service.post(b"no image");
    assert_eq!(status, 422);
    assert!(refused["error"].as_str().expect("a message").contains("expected a whole PNG"), "{refused}");
}
