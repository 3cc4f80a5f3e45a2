//! Configuration of a run.
