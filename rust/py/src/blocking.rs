//! Runs one engine verb on the runtime and waits for it with the interpreter released.
//!
//! A [`Job`] owns the running verb. `wait` is the synchronous way to consume it; it looks at Python's signals every
//! [`SIGNAL_POLL`], hands progress to the caller's function, and never returns before a verb that writes has ended.

use crate::errors;
use nbws_engine::cancel::CancelToken;
use nbws_engine::progress::{Progress, ProgressSink};
use nbws_engine::{Error, ErrorKind};
use pyo3::types::PyAnyMethods;
use pyo3::{Bound, PyAny, PyErr, PyResult, Python};
use std::future::Future;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

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

enum Event<T> {
    Progress(Progress),
    Ended(Result<T, Error>),
}

/// What an interrupt does to a verb before it is waited for.
pub(crate) enum Interrupt {
    /// Asks it to stop through its token and waits for its own end.
    Cancel(CancelToken),
    /// Drops it at its next wait: only for verbs that write nothing.
    Drop,
    /// Lets it finish: for short verbs that write and take no token.
    Finish,
}

/// A verb at work on the runtime.
pub(crate) struct Job<T> {
    events: Receiver<Event<T>>,
    task: JoinHandle<()>,
    interrupt: Interrupt,
}

impl<T: Send + 'static> Job<T> {
    /// Starts a verb without progress.
    pub(crate) fn start<F>(interrupt: Interrupt, verb: F) -> Result<Self, Error>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let (sender, events) = channel();
        Self::spawn(interrupt, verb, sender, events)
    }

    /// Starts a verb that takes a progress sink and a cancel token.
    pub(crate) fn start_cancellable<F>(
        verb: impl FnOnce(Option<ProgressSink>, CancelToken) -> F,
    ) -> Result<Self, Error>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let (sender, events) = channel();
        let cancel = CancelToken::new();
        let reports = sender.clone();
        let sink: ProgressSink = Arc::new(move |progress| {
            // Nobody listens any more only when the interpreter is going away.
            drop(reports.send(Event::Progress(progress)));
        });
        let future = verb(Some(sink), cancel.clone());
        Self::spawn(Interrupt::Cancel(cancel), future, sender, events)
    }

    fn spawn<F>(
        interrupt: Interrupt,
        verb: F,
        sender: Sender<Event<T>>,
        events: Receiver<Event<T>>,
    ) -> Result<Self, Error>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let task = runtime()?.spawn(async move {
            drop(sender.send(Event::Ended(verb.await)));
        });
        Ok(Job {
            events,
            task,
            interrupt,
        })
    }

    /// Waits for the end with the interpreter released between events.
    ///
    /// An exception from a signal or from `on_progress` interrupts the verb, waits for its end, and is then raised, even
    /// if the verb succeeded in between: what was acknowledged stays so.
    pub(crate) fn wait(
        mut self,
        py: Python<'_>,
        on_progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<T> {
        let mut raised: Option<PyErr> = None;
        loop {
            let step = match next(py, &mut self.events) {
                Ok(Event::Ended(end)) => {
                    return match raised {
                        Some(exception) => Err(exception),
                        None => end.map_err(|error| errors::to_python(py, &error)),
                    };
                }
                Ok(Event::Progress(progress)) => match (on_progress, &raised) {
                    (Some(function), None) => report(function, progress),
                    _ => Ok(()),
                },
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(raised.unwrap_or_else(|| errors::to_python(py, &lost())));
                }
            };
            // Later interrupts change nothing: the first one is being obeyed.
            let step = step.and_then(|()| py.check_signals());
            if let (Err(exception), true) = (step, raised.is_none()) {
                raised = Some(exception);
                self.interrupt();
            }
        }
    }

    fn interrupt(&self) {
        match &self.interrupt {
            Interrupt::Cancel(token) => token.cancel(),
            Interrupt::Drop => self.task.abort(),
            Interrupt::Finish => {}
        }
    }
}

/// The next event with the interpreter released; of several waiting progress reports only the newest.
fn next<T: Send>(
    py: Python<'_>,
    events: &mut Receiver<Event<T>>,
) -> Result<Event<T>, RecvTimeoutError> {
    py.detach(move || {
        let mut event = events.recv_timeout(SIGNAL_POLL)?;
        while let Event::Progress(_) = event {
            match events.try_recv() {
                Ok(newer) => event = newer,
                Err(_) => break,
            }
        }
        Ok(event)
    })
}

fn report(function: &Bound<'_, PyAny>, progress: Progress) -> PyResult<()> {
    let Progress {
        phase,
        files_done,
        files_total,
        bytes_done,
        bytes_total,
    } = progress;
    function
        .call1((phase, files_done, files_total, bytes_done, bytes_total))
        .map(drop)
}

fn lost() -> Error {
    Error::internal(
        "wait",
        "the engine ended without an answer; its thread may have panicked",
    )
}
