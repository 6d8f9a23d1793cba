//! A store that is asked too much gets fewer requests at once, and slowly more again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use futures::future::join_all;
use nbws_engine::cancel::CancelToken;
use nbws_engine::clock::Deadline;
use nbws_engine::store::{Retrying, Store, StoreOptions, open};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SERVICE: Duration = Duration::from_millis(60);
const PATIENT: usize = 4;

/// Serves every request in [`SERVICE`]. While it is strict, it refuses those beyond [`PATIENT`] at once.
#[derive(Default)]
struct Server {
    is_strict: AtomicBool,
    running: AtomicUsize,
    refused: AtomicUsize,
    peak: Mutex<usize>,
}

impl Server {
    fn start(self: &Arc<Self>) -> Arc<dyn Store> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = Arc::clone(self);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let server = Arc::clone(&server);
                std::thread::spawn(move || server.answer(connection.unwrap()));
            }
        });
        let options = StoreOptions::from_iter([
            ("endpoint", endpoint.as_str()),
            ("access_key_id", "key"),
            ("secret_access_key", "secret"),
            ("region", "eu-west-1"),
            ("client_options.allow_http", "true"),
        ]);
        let store = open("s3://bucket/prefix", &options).unwrap();
        // As every verb has it.
        let patience = Deadline::after(Duration::from_secs(120));
        Arc::new(Retrying::new(store, patience, CancelToken::new()))
    }

    fn answer(&self, connection: TcpStream) {
        let mut reader = BufReader::new(connection);
        let mut line = String::new();
        while reader.read_line(&mut line).unwrap_or(0) > 0 && !line.trim().is_empty() {
            line.clear();
        }
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        let mut peak = self.peak.lock().unwrap();
        *peak = running.max(*peak);
        drop(peak);
        std::thread::sleep(SERVICE);
        let status = match self.is_strict.load(Ordering::SeqCst) && running > PATIENT {
            true => "503 Slow Down",
            false => "200 OK",
        };
        self.running.fetch_sub(1, Ordering::SeqCst);
        self.refused
            .fetch_add(usize::from(status.starts_with('5')), Ordering::SeqCst);
        let _ = write!(
            reader.get_mut(),
            "HTTP/1.1 {status}\r\nContent-Length: 4\r\nETag: \"e\"\r\nLast-Modified: Sun, 22 Nov 2026 10:00:00 GMT\r\n\
             Connection: close\r\n\r\nbody"
        );
    }

    /// Asks for so many objects at once; returns how many were under way together.
    async fn peak(&self, store: &Arc<dyn Store>, requests: usize) -> usize {
        *self.peak.lock().unwrap() = 0;
        let keys: Vec<String> = (0..requests).map(|n| format!("packs/{n}")).collect();
        for got in join_all(keys.iter().map(|key| store.get(key))).await {
            assert_eq!(&got.unwrap()[..], b"body");
        }
        *self.peak.lock().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_asked_too_much_gets_fewer_requests_at_once() {
    let server = Arc::new(Server::default());
    let store = server.start();
    // Nobody holds back as long as nobody is refused.
    assert!(server.peak(&store, 48).await > 24);

    server.is_strict.store(true, Ordering::SeqCst);
    server.peak(&store, 48).await;
    assert!(server.refused.load(Ordering::SeqCst) > 0);
    server.is_strict.store(false, Ordering::SeqCst);
    let after = server.peak(&store, 24).await;
    assert!(after <= 12, "{after} at once after the refusals");

    // It grows again, one by one.
    let mut grown = after;
    for _ in 0..6 {
        grown = server.peak(&store, 24).await;
    }
    assert!(grown > after, "{after} then, {grown} now");
}
