//! Plans: inputs to a plan as a value, no side effects.
