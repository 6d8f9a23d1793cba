//! What the doctor found.

use super::Requests;

/// What a store guarantees, as measured.
#[derive(Clone, Debug, Default)]
pub struct DoctorReport {
    /// The store, without secrets.
    pub url: String,
    /// Program and version that measured.
    pub client: String,
    /// Several writers may share a repository there: conditional create is atomic, and what was written is read.
    pub multi_writer: bool,
    /// A second create of one name was refused and changed nothing.
    pub sequential_create: bool,
    /// Rounds of 16 creates of one name at once.
    pub rounds: u64,
    /// Of these, with one winner whose bytes are stored.
    pub rounds_with_one_winner: u64,
    /// Most creates of one round that succeeded: 1, or creates are not atomic.
    pub most_winners: u64,
    /// A create that was refused changed the object.
    pub losers_wrote: bool,
    /// Creates that the store did not answer clearly.
    pub unclear: u64,
    /// An object can be read as soon as it is written.
    pub read_after_write: bool,
    /// An object is listed as soon as it is written.
    pub list_after_write: bool,
    /// Uploads in parts work, which nothing depends on; none where a store knows no parts.
    pub multipart: Option<bool>,
    /// The store's clock minus this machine's in seconds, to about a second.
    pub clock_offset_s: Option<f64>,
    /// The record that keeps this outcome with the repository; none without a repository, or if it says the same already.
    pub recorded: Option<u64>,
    /// What follows, one sentence each.
    pub findings: Vec<String>,
    /// Requests sent.
    pub requests: Requests,
    /// Wall time in seconds.
    pub duration_s: f64,
}
