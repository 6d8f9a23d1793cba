//! nbws.
