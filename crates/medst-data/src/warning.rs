//! Lines for the user from places that return no value to put them in: a copy that is used because
//! a storage cannot be reached, why a job of several processes ends. A library does not write to
//! the terminal; the program that uses it decides where the lines go.

use std::sync::{Mutex, PoisonError};

static SINK: Mutex<Option<fn(&str)>> = Mutex::new(None);

/// Directs warnings to a function from now on. Until this is called they are dropped.
pub fn send_to(sink: fn(&str)) {
    *SINK.lock().unwrap_or_else(PoisonError::into_inner) = Some(sink);
}

/// Warns.
pub fn warn(line: &str) {
    let sink = *SINK.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(sink) = sink {
        sink(line);
    }
}
