//! The one error type: a kind, the operation, the key or path it hit, and the cause.

use std::borrow::Cow;
use std::fmt;

/// What went wrong, by what the caller does next. `python/nbws/errors.py` mirrors the list; a test compares both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Somebody else is at work or was first; wait, or take over.
    Conflict,
    /// A newer writer took over; this one's work was kept as a rescue if there was any.
    Fenced,
    /// The store did not say whether the record landed; the next start or save resolves it.
    CommitUnknown,
    /// The repository, snapshot or object does not exist.
    NotFound,
    /// The thing to create exists.
    AlreadyExists,
    /// The caller's input can't be used.
    InvalidInput,
    /// Not allowed in the present state.
    InvalidState,
    /// A hard limit would be passed.
    QuotaExceeded,
    /// The store can't be reached or is overloaded; trying again may help.
    Unavailable,
    /// Credentials are missing, wrong or insufficient.
    Denied,
    /// Stored bytes are not what was written.
    Corrupt,
    /// A newer format, an unknown feature, or something this store can't do.
    Unsupported,
    /// The log is older than what is known to have been committed.
    RollbackDetected,
    /// The local file system refused.
    LocalIo,
    /// The caller cancelled.
    Cancelled,
    /// A bug in nbws.
    Internal,
}

impl ErrorKind {
    /// Every kind, in the order of declaration.
    pub const ALL: [ErrorKind; 16] = [
        ErrorKind::Conflict,
        ErrorKind::Fenced,
        ErrorKind::CommitUnknown,
        ErrorKind::NotFound,
        ErrorKind::AlreadyExists,
        ErrorKind::InvalidInput,
        ErrorKind::InvalidState,
        ErrorKind::QuotaExceeded,
        ErrorKind::Unavailable,
        ErrorKind::Denied,
        ErrorKind::Corrupt,
        ErrorKind::Unsupported,
        ErrorKind::RollbackDetected,
        ErrorKind::LocalIo,
        ErrorKind::Cancelled,
        ErrorKind::Internal,
    ];

    /// The stable name, as Python and JSON show it.
    pub const fn name(self) -> &'static str {
        match self {
            ErrorKind::Conflict => "Conflict",
            ErrorKind::Fenced => "Fenced",
            ErrorKind::CommitUnknown => "CommitUnknown",
            ErrorKind::NotFound => "NotFound",
            ErrorKind::AlreadyExists => "AlreadyExists",
            ErrorKind::InvalidInput => "InvalidInput",
            ErrorKind::InvalidState => "InvalidState",
            ErrorKind::QuotaExceeded => "QuotaExceeded",
            ErrorKind::Unavailable => "Unavailable",
            ErrorKind::Denied => "Denied",
            ErrorKind::Corrupt => "Corrupt",
            ErrorKind::Unsupported => "Unsupported",
            ErrorKind::RollbackDetected => "RollbackDetected",
            ErrorKind::LocalIo => "LocalIo",
            ErrorKind::Cancelled => "Cancelled",
            ErrorKind::Internal => "Internal",
        }
    }

    /// Whether the same call may succeed later without a change by the caller.
    pub const fn retryable(self) -> bool {
        matches!(
            self,
            ErrorKind::CommitUnknown | ErrorKind::Unavailable | ErrorKind::Conflict
        )
    }
}

/// Shorthand for results with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// A failure: kind, operation, subject (key or path), message, cause, and the rescue that keeps the work, if any.
///
/// `Display` escapes control characters, so names chosen by somebody else can't drive a terminal.
pub struct Error(Box<Parts>);

struct Parts {
    kind: ErrorKind,
    operation: &'static str,
    subject: String,
    message: Cow<'static, str>,
    rescue: Option<String>,
    cause: Option<Cause>,
}

impl Error {
    /// A new error; `operation` is a verb ("read pack"), `message` says what is wrong and what to do.
    pub fn new(
        kind: ErrorKind,
        operation: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Error(Box::new(Parts {
            kind,
            operation,
            subject: String::new(),
            message: message.into(),
            rescue: None,
            cause: None,
        }))
    }

    /// Stored bytes are not what was written.
    pub fn corrupt(operation: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(ErrorKind::Corrupt, operation, message)
    }

    /// A bug in nbws: an invariant did not hold.
    pub fn internal(operation: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(ErrorKind::Internal, operation, message)
    }

    /// The local file system refused `path`.
    pub fn local(operation: &'static str, path: &[u8], cause: std::io::Error) -> Self {
        Error::new(ErrorKind::LocalIo, operation, cause.to_string())
            .at_path(path)
            .caused_by(cause)
    }

    /// Names the object key or path that was hit.
    #[must_use]
    pub fn at(mut self, subject: impl Into<String>) -> Self {
        self.0.subject = subject.into();
        self
    }

    /// Names the path that was hit; bytes that are not UTF-8 are shown escaped.
    #[must_use]
    pub fn at_path(self, path: &[u8]) -> Self {
        self.at(display_path(path))
    }

    /// Keeps the cause.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Cause>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Names the rescue that holds the work of the failed save.
    #[must_use]
    pub fn with_rescue(mut self, rescue: impl Into<String>) -> Self {
        self.0.rescue = Some(rescue.into());
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The operation that failed.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The key or path, or "".
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// What is wrong, without operation and subject.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The snapshot id of the rescue that keeps the work, if one was made.
    pub fn rescue(&self) -> Option<&str> {
        self.0.rescue.as_deref()
    }

    /// The error number of the operating system, where one caused this.
    pub fn os_error(&self) -> Option<i32> {
        let cause: &(dyn std::error::Error + 'static) = &**self.0.cause.as_ref()?;
        cause.downcast_ref::<std::io::Error>()?.raw_os_error()
    }
}

/// Bytes of a path as printable text: UTF-8 kept, control characters and other bytes as `\xNN`.
pub fn display_path(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        escape_into(chunk.valid(), &mut out);
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

fn escape_into(text: &str, out: &mut String) {
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        escape_into(&self.0.message, &mut text);
        if self.0.subject.is_empty() {
            write!(f, "{}: {text}", self.0.operation)
        } else {
            let mut subject = String::new();
            escape_into(&self.0.subject, &mut subject);
            write!(f, "{} {subject}: {text}", self.0.operation)
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({self})", self.0.kind.name())?;
        match &self.0.cause {
            Some(cause) => write!(f, " <- {cause:?}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.cause.as_ref().map(|c| &**c as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_never_reach_a_terminal() {
        let error = Error::corrupt("read", "bad \u{1b}[31m").at_path(b"a\x1b[2J\xff\n");
        assert_eq!(
            error.to_string(),
            "read a\\u{1b}[2J\\xff\\n: bad \\u{1b}[31m"
        );
    }
}
