//! Plans: inputs to a plan as a value, without side effects.

pub mod admit;
pub mod restore;
pub mod save_order;
