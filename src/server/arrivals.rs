//! When messages are taken.

use std::sync::{Mutex, PoisonError};

use crate::clock;
use crate::message::trace::Arrival;

/// Tells the time for a message. Those of one second share the texts.
#[derive(Debug, Default)]
pub(super) struct Arrivals(Mutex<Option<(i64, Arrival)>>);

impl Arrivals {
    pub(super) fn now(&self) -> Arrival {
        let second = clock::unix_micros().div_euclid(1_000_000);
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((of, arrival)) if *of == second => arrival.clone(),
            _ => last.insert((second, Arrival::at(&clock::now()))).1.clone(),
        }
    }
}
