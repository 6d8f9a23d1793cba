//! Plans: inputs to a plan as a value, without side effects.

pub mod admit;
pub mod pace;
pub mod prune;
pub mod restore;
pub mod retention;
pub mod save_order;
