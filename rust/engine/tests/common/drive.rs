//! One verb in a process of its own, and what it took: time, and anonymous memory by phase.
#![allow(dead_code)]

use nbws_engine::Workspace;
use nbws_engine::cancel::CancelToken;
use nbws_engine::options::{Level, OpenOptions, RestoreOptions, SaveOptions, UsageOptions};
use nbws_engine::progress::ProgressSink;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How to call it.
pub(crate) const USAGE: &str = "drive save DIRECTORY URL STATE [LEVEL] | drive restore URL DIRECTORY STATE | \
                                drive usage URL STATE | drive growth URL STATE | \
                                drive tree DIRECTORY FILES | drive file PATH BYTES";

/// Carries out one verb and describes what it did, line by line.
pub(crate) fn drive(arguments: &[&str]) -> Result<String, String> {
    match arguments {
        ["tree", directory, files] => {
            make_small_files(Path::new(directory), 0, number(files)?);
            Ok(String::new())
        }
        ["file", path, bytes] => {
            make_large_file(Path::new(path), number(bytes)?);
            Ok(String::new())
        }
        ["save", directory, url, state, rest @ ..] => {
            let level = match rest {
                [level] => Level::Fixed(number(level)? as i32),
                _ => Level::Auto,
            };
            measure(url, state, async |workspace, progress| {
                let options = SaveOptions {
                    level,
                    ..SaveOptions::default()
                };
                let directory = Path::new(directory);
                let token = CancelToken::new();
                let report = workspace.save(directory, options, progress, token).await;
                report.map(|report| format!("{report:#?}"))
            })
        }
        ["restore", url, directory, state] => measure(url, state, async |workspace, progress| {
            let directory = Path::new(directory);
            let (options, token) = (RestoreOptions::default(), CancelToken::new());
            let report = workspace.restore(directory, options, progress, token).await;
            report.map(|report| format!("{report:#?}"))
        }),
        ["usage", url, state] => measure(url, state, async |workspace, _| {
            let report = workspace.usage(by_path_and_category()).await;
            report.map(|report| format!("{} rows, {:?}", report.by_path.len(), report.total))
        }),
        ["growth", url, state] => measure(url, state, async |workspace, _| {
            let steps = workspace.growth(&[], by_path_and_category()).await;
            steps.map(|steps| format!("{steps:?}"))
        }),
        _ => Err(USAGE.to_owned()),
    }
}

fn by_path_and_category() -> UsageOptions {
    let category = |name: &str, pattern: &str| (name.to_owned(), vec![pattern.to_owned()]);
    UsageOptions {
        depth: 2,
        categories: vec![category("caches", "__pycache__/"), category("code", "*.py")],
        ..UsageOptions::default()
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|e| format!("{text:?}: {e}"))
}

/// Opens the repository, runs `verb` and tells its report, times and memory.
fn measure(
    url: &str,
    state: &str,
    verb: impl AsyncFnOnce(Workspace, Option<ProgressSink>) -> nbws_engine::Result<String>,
) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    let options = OpenOptions {
        create: true,
        state_dir: Some(state.into()),
        ..OpenOptions::default()
    };
    runtime.block_on(async {
        let text = |e: nbws_engine::Error| e.to_string();
        let workspace = Workspace::open(url, options).await.map_err(text)?;
        let watch = Watch::start();
        let report = verb(workspace, Some(watch.sink())).await.map_err(text)?;
        Ok(format!("{report}\n{}", watch.finish()))
    })
}

/// A value of `/proc/self/status` in bytes.
fn status(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.trim_start_matches(':').split_whitespace().next());
    kib.and_then(|kib| kib.parse().ok()).unwrap_or(0) * 1024
}

/// Samples the anonymous memory of this process.
struct Watch {
    start: Instant,
    idle: u64,
    shared: Arc<Sampled>,
    sampler: std::thread::JoinHandle<()>,
}

#[derive(Default)]
struct Sampled {
    is_done: AtomicBool,
    phase: Mutex<&'static str>,
    peaks: Mutex<BTreeMap<&'static str, u64>>,
}

impl Watch {
    fn start() -> Self {
        let shared = Arc::new(Sampled::default());
        let sampler = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                while !shared.is_done.load(Ordering::Relaxed) {
                    let now = status("RssAnon");
                    let phase = *shared.phase.lock().unwrap();
                    let mut peaks = shared.peaks.lock().unwrap();
                    let peak = peaks.entry(phase).or_default();
                    *peak = now.max(*peak);
                    drop(peaks);
                    std::thread::sleep(Duration::from_millis(4));
                }
            }
        });
        Watch {
            start: Instant::now(),
            idle: status("RssAnon"),
            shared,
            sampler,
        }
    }

    fn sink(&self) -> ProgressSink {
        let shared = Arc::clone(&self.shared);
        Arc::new(move |progress| *shared.phase.lock().unwrap() = progress.phase)
    }

    fn finish(self) -> String {
        let seconds = self.start.elapsed().as_secs_f64();
        // The kernel's own mark misses nothing between two samples; mapped files only grow, so they are no less now.
        let mark = status("VmHWM").saturating_sub(status("RssFile") + status("RssShmem"));
        self.shared.is_done.store(true, Ordering::Relaxed);
        let _ = self.sampler.join();
        let peaks = self.shared.peaks.lock().unwrap();
        let sampled = peaks.values().copied().max().unwrap_or(0);
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let mut out = format!(
            "wall_s={seconds:.2}\ncpu_s={:.2}\nidle_bytes={}\npeak_bytes={}\n",
            cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            self.idle,
            sampled.max(mark)
        );
        for (phase, peak) in peaks.iter() {
            out += &format!("peak_bytes in phase {phase:?}: {peak}\n");
        }
        out
    }
}

/// Makes files `first..first + count` of 100 to 300 bytes, no two alike, 100 to a directory.
pub(crate) fn make_small_files(root: &Path, first: u64, count: u64) {
    for i in first..first + count {
        let directory = root.join(format!(
            "package_{:05}/module_{:02}",
            i / 1_000,
            i / 100 % 10
        ));
        if i % 100 == 0 || i == first {
            fs::create_dir_all(&directory).unwrap();
        }
        let mut text = format!("number = {i}\nhash = {}\n", blake3::hash(&i.to_le_bytes()));
        text += &"# a line of text like others\n".repeat((i % 7) as usize);
        fs::write(directory.join(format!("some_file_{i:07}.py")), text).unwrap();
    }
}

/// Makes a file without holes: of every 4 KiB, one is noise and the rest repeats a line; no two blocks are alike.
pub(crate) fn make_large_file(path: &Path, bytes: u64) {
    use std::io::Write;
    const BLOCK: usize = 4 << 10;
    let mut file = fs::File::create(path).unwrap();
    let mut buffer = vec![0; 256 * BLOCK];
    let mut written = 0;
    while written < bytes {
        let mut noise = blake3::Hasher::new()
            .update(&written.to_le_bytes())
            .finalize_xof();
        for (i, block) in buffer.chunks_mut(BLOCK).enumerate() {
            noise.fill(&mut block[..BLOCK / 4]);
            let line = format!("row {}, column 17, value 3.25\n", written + i as u64);
            for (to, from) in block[BLOCK / 4..].iter_mut().zip(line.bytes().cycle()) {
                *to = from;
            }
        }
        let count = (bytes - written).min(buffer.len() as u64);
        file.write_all(&buffer[..count as usize]).unwrap();
        written += count;
    }
}
