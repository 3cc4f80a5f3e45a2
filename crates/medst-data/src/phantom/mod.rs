//! The phantom cohort: synthetic patients with known truth.
