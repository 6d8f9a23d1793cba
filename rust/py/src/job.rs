//! Runs one engine verb on the runtime; Python waits for it or awaits it.
//!
//! A [`Job`] owns the running verb and has two consumers. `wait` blocks with the interpreter released, looks at Python's
//! signals every [`SIGNAL_POLL`], hands progress to the caller's function, and never returns before a verb that writes has ended.
//! `subscribe`, `poll` and `result` are for an event loop, which is told from another thread that there is news.

use crate::errors;
use crate::listener;
use crate::reports::Plain;
use nbws_engine::cancel::CancelToken;
use nbws_engine::progress::{Progress, ProgressSink};
use nbws_engine::{Error, ErrorKind};
use pyo3::types::PyAnyMethods;
use pyo3::{Bound, Py, PyAny, PyErr, PyResult, Python, pyclass, pymethods};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::task::AbortHandle;

/// How long Ctrl-C may go unnoticed.
const SIGNAL_POLL: Duration = Duration::from_millis(50);

static RUNTIME: OnceLock<(u32, std::io::Result<Runtime>)> = OnceLock::new();

/// The runtime of this process, made on first use. Its threads don't survive a fork, so a child gets `InvalidState`.
fn runtime() -> Result<&'static Runtime, Error> {
    let pid = std::process::id();
    let (owner, runtime) = RUNTIME.get_or_init(|| {
        let made = Builder::new_multi_thread()
            .thread_name("nbws")
            .enable_all()
            .build();
        (pid, made)
    });
    if *owner != pid {
        return Err(Error::new(
            ErrorKind::InvalidState,
            "start work",
            "this process was forked from one that had used nbws already, and the engine's threads did not come along; \
             start workers with multiprocessing's spawn or forkserver method, or use nbws in the child only",
        ));
    }
    runtime.as_ref().map_err(|cause| {
        Error::new(
            ErrorKind::LocalIo,
            "start runtime",
            format!("the engine's threads could not be started: {cause}"),
        )
    })
}

type Outcome = Result<Box<dyn Plain + Send>, Error>;

/// What an interrupt does to a verb before it is waited for.
pub(crate) enum Interrupt {
    /// Asks it to stop through its token and waits for its own end.
    Cancel(CancelToken),
    /// Drops it at its next wait: only for verbs that write nothing.
    Drop,
    /// Lets it finish: for short verbs that write and take no token.
    Finish,
}

/// What the verb has said and nobody has heard yet.
#[derive(Default)]
struct News {
    progress: Option<Progress>,
    end: Option<Outcome>,
    is_ended: bool,
    listener: Option<Py<PyAny>>,
    /// The listener was called and has not asked yet.
    is_told: bool,
}

#[derive(Default)]
struct Shared {
    news: Mutex<News>,
    changed: Condvar,
    is_interrupted: AtomicBool,
}

impl Shared {
    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn end(self: &Arc<Self>, outcome: Outcome) {
        let mut news = self.news();
        if !news.is_ended {
            news.is_ended = true;
            news.end = Some(outcome);
            self.tell(news);
        }
    }

    /// Wakes whoever waits. The listener is called on a thread that may block: taking the interpreter can take long.
    fn tell(self: &Arc<Self>, mut news: MutexGuard<'_, News>) {
        self.changed.notify_all();
        if news.listener.is_none() || std::mem::replace(&mut news.is_told, true) {
            return;
        }
        drop(news);
        let shared = Arc::clone(self);
        if let Ok(runtime) = runtime() {
            runtime.spawn_blocking(move || {
                listener::call(|py| shared.news().listener.as_ref().map(|l| l.clone_ref(py)));
            });
        }
    }
}

/// Ends the job also when the verb is dropped or panics.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        let error = if self.0.is_interrupted.load(Ordering::Relaxed) {
            Error::new(ErrorKind::Cancelled, "wait", "was interrupted")
        } else {
            Error::internal(
                "wait",
                "the engine ended without an answer; its thread may have panicked",
            )
        };
        self.0.end(Err(error));
    }
}

/// A verb at work on the runtime.
#[pyclass(frozen, module = "nbws._nbws")]
pub(crate) struct Job {
    shared: Arc<Shared>,
    task: AbortHandle,
    interrupt: Interrupt,
}

impl Job {
    /// Starts a verb without progress.
    pub(crate) fn start<T, F>(py: Python<'_>, interrupt: Interrupt, verb: F) -> PyResult<Self>
    where
        T: Plain + Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        Self::spawn(interrupt, verb, Arc::default()).map_err(|e| errors::to_python(py, &e))
    }

    /// Starts a verb that takes a progress sink and a cancel token.
    pub(crate) fn start_cancellable<T, F>(
        py: Python<'_>,
        verb: impl FnOnce(Option<ProgressSink>, CancelToken) -> F,
    ) -> PyResult<Self>
    where
        T: Plain + Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let shared = Arc::new(Shared::default());
        let cancel = CancelToken::new();
        let listening = Arc::clone(&shared);
        let sink: ProgressSink = Arc::new(move |progress| {
            let mut news = listening.news();
            // Of several only the newest counts.
            news.progress = Some(progress);
            listening.tell(news);
        });
        let future = verb(Some(sink), cancel.clone());
        Self::spawn(Interrupt::Cancel(cancel), future, shared)
            .map_err(|e| errors::to_python(py, &e))
    }

    fn spawn<T, F>(interrupt: Interrupt, verb: F, shared: Arc<Shared>) -> Result<Self, Error>
    where
        T: Plain + Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let runtime = runtime()?;
        let ending = Ending(Arc::clone(&shared));
        let task = runtime.spawn(async move {
            let outcome = verb.await;
            ending
                .0
                .end(outcome.map(|value| Box::new(value) as Box<dyn Plain + Send>));
        });
        Ok(Job {
            shared,
            task: task.abort_handle(),
            interrupt,
        })
    }

    /// The next progress, or true at the end, with the interpreter released; neither after [`SIGNAL_POLL`].
    fn next(&self, py: Python<'_>) -> (Option<Progress>, bool) {
        py.detach(|| {
            let news = self.shared.news();
            let is_quiet = |news: &mut News| news.progress.is_none() && !news.is_ended;
            let waited = (self.shared.changed).wait_timeout_while(news, SIGNAL_POLL, is_quiet);
            let (mut news, _) = waited.unwrap_or_else(|e| e.into_inner());
            (news.progress.take(), news.is_ended)
        })
    }
}

#[pymethods]
impl Job {
    /// Waits for the end with the interpreter released.
    ///
    /// An exception from a signal or from `progress` interrupts the verb, waits for its end, and is then raised, even
    /// if the verb succeeded in between: what was acknowledged stays so.
    #[pyo3(signature = (progress=None))]
    fn wait<'py>(
        &self,
        py: Python<'py>,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut raised: Option<PyErr> = None;
        loop {
            let (news, is_ended) = self.next(py);
            if is_ended {
                return match raised {
                    Some(exception) => Err(exception),
                    None => self.result(py),
                };
            }
            let step = match (progress, news, &raised) {
                (Some(function), Some(news), None) => function.call1(values(news)).map(drop),
                _ => Ok(()),
            };
            // Later interrupts change nothing: the first one is being obeyed.
            let step = step.and_then(|()| py.check_signals());
            if let (Err(exception), true) = (step, raised.is_none()) {
                raised = Some(exception);
                self.interrupt();
            }
        }
    }

    /// From now on calls `listener`, without arguments and on another thread, when there is news; again only after `poll`.
    fn subscribe(&self, py: Python<'_>, listener: Py<PyAny>) -> PyResult<()> {
        listener::end_with_interpreter(py)?;
        let mut news = self.shared.news();
        news.listener = Some(listener);
        if news.is_ended || news.progress.is_some() {
            self.shared.tell(news);
        }
        Ok(())
    }

    /// The newest progress that was not asked for yet, and whether the verb has ended.
    fn poll(&self) -> (Option<Values>, bool) {
        let mut news = self.shared.news();
        news.is_told = false;
        (news.progress.take().map(values), news.is_ended)
    }

    /// What the verb returned or raised; once, after its end.
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let end = self.shared.news().end.take();
        let early = || Error::internal("wait", "has not ended, or was asked for twice");
        match end.unwrap_or_else(|| Err(early())) {
            Ok(value) => value.plain(py),
            Err(error) => Err(errors::to_python(py, &error)),
        }
    }

    /// Makes the verb end soon. A verb that writes comes to its own end, which must be waited for.
    fn interrupt(&self) {
        self.shared.is_interrupted.store(true, Ordering::Relaxed);
        match &self.interrupt {
            Interrupt::Cancel(token) => token.cancel(),
            Interrupt::Drop => self.task.abort(),
            Interrupt::Finish => {}
        }
    }
}

/// Phase, files done and total, bytes done and total.
type Values = (&'static str, u64, u64, u64, u64);

fn values(progress: Progress) -> Values {
    let Progress {
        phase,
        files_done,
        files_total,
        bytes_done,
        bytes_total,
    } = progress;
    (phase, files_done, files_total, bytes_done, bytes_total)
}
