//! Figures, not checks, in CPU time because machines are shared:
//! `cargo test --release -p nbws-engine local::tests::speed -- --ignored --nocapture --test-threads=1`.

use super::*;
use rustix::time::{ClockId, clock_gettime};

const DIRECTORIES: usize = 5_700;
const FILES: usize = 45_000;

/// CPU time of the process so far, in seconds.
fn spent() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// A tree shaped like a virtual environment: eight files to a directory, six levels deep.
fn fill(root: &Root) -> f64 {
    let names: Vec<Vec<u8>> = (0..DIRECTORIES).map(directory_name).collect();
    for depth in 1..8 {
        for name in names
            .iter()
            .filter(|n| n.split(|b| *b == b'/').count() == depth)
        {
            root.make_directory(name).unwrap();
        }
    }
    let body = [7; 4_000];
    let start = spent();
    for at in 0..FILES {
        let name = format!("module_{at}.py");
        let path = nbws_core::path::join(&names[at * DIRECTORIES / FILES], name.as_bytes());
        let file = root.create_file(&path).unwrap();
        file.write_at(0, &body).unwrap();
        file.finish(&metadata(0o644, 1_600_000_000)).unwrap();
    }
    FILES as f64 / (spent() - start)
}

fn directory_name(at: usize) -> Vec<u8> {
    let mut parts = vec![format!("package_{at}")];
    let mut up = at;
    while up > 0 {
        up = (up - 1) / 6;
        parts.push(format!("package_{up}"));
    }
    parts.reverse();
    parts.join("/").into_bytes()
}

#[test]
#[ignore = "measures"]
fn create_and_scan() {
    let dir = directory();
    for (name, stepwise) in [("openat2", false), ("by steps", true)] {
        let path = dir.path().join(name);
        Root::create(&path).unwrap();
        let root = if stepwise {
            Root::open_stepwise(&path).unwrap()
        } else {
            Root::open(&path).unwrap()
        };
        println!("{name}: {:.0} files created per CPU second", fill(&root));
        for threads in [1, 2] {
            let mut best = f64::INFINITY;
            let mut scanned = Scanned::default();
            for _ in 0..7 {
                let start = spent();
                scanned = scan_with(&root, &Rules::default(), threads);
                best = best.min(spent() - start);
            }
            let path_bytes: usize = scanned.iter().map(|entry| entry.path.len()).sum();
            println!(
                "{name}, {threads} threads: {} entries in {:.1} CPU ms = {:.0}/s; {} bytes an entry, {} of them path",
                scanned.len(),
                best * 1e3,
                scanned.len() as f64 / best,
                scanned.memory_bytes() / scanned.len(),
                path_bytes / scanned.len(),
            );
        }
    }
}

#[test]
#[ignore = "measures"]
fn one_large_directory() {
    let dir = directory();
    let root = Root::open(dir.path()).unwrap();
    root.make_directory(b"all").unwrap();
    for at in 0..200_000_u64 {
        let name = format!("all/{:016x}", at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        root.create_file(name.as_bytes()).unwrap();
    }
    let start = spent();
    let scanned = scan_with(&root, &Rules::default(), 1);
    let taken = spent() - start;
    println!(
        "200,000 names in one directory: {:.0} per CPU second",
        scanned.len() as f64 / taken
    );
}
