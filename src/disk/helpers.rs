//! Threads that wait for the disk, so that it has much to do at the same time.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many things are done at the same time: what a disk has in its queue it can do together.
const AT_ONCE: usize = 8;
/// How long a thread waits for more to do before it ends.
const IDLE_TIME: Duration = Duration::from_secs(10);

/// A few threads, which are there while there is something to do.
#[derive(Debug, Default)]
pub(super) struct Helpers(Arc<Desk>);

#[derive(Debug, Default)]
struct Desk {
    work: Mutex<Work>,
    /// There is something to do.
    news: Condvar,
}

#[derive(Default)]
struct Work {
    tasks: VecDeque<Box<dyn FnOnce() + Send>>,
    /// How many threads there are.
    threads: usize,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work")
            .field("tasks", &self.tasks.len())
            .field("threads", &self.threads)
            .finish()
    }
}

impl Helpers {
    /// Does all of it, this thread too; gives the results in the same order, `None` for what
    /// panicked.
    pub(super) fn do_all<T: Send + 'static>(
        &self,
        tasks: Vec<Box<dyn FnOnce() -> T + Send>>,
    ) -> Vec<Option<T>> {
        let count = tasks.len();
        let round = Arc::new(Round {
            results: Mutex::new((tasks.iter().map(|_| None).collect(), count)),
            end: Condvar::new(),
        });
        let mut work = self.0.work();
        for (number, task) in tasks.into_iter().enumerate() {
            let round = Arc::clone(&round);
            work.tasks.push_back(Box::new(move || {
                // The others are to be done all the same, and somebody waits for this one.
                round.put(number, catch_unwind(AssertUnwindSafe(task)).ok());
            }));
        }
        let helpers = count.min(AT_ONCE).saturating_sub(1);
        for _ in work.threads..helpers {
            let desk = Arc::clone(&self.0);
            let thread = std::thread::Builder::new().name("disk".to_owned());
            // Where the system has no thread to give, there are fewer.
            if thread.spawn(move || desk.help()).is_ok() {
                work.threads += 1;
            }
        }
        drop(work);
        (0..helpers).for_each(|_| self.0.news.notify_one());
        while let Some(task) = self.0.next() {
            task();
        }
        round.results()
    }
}

/// What is done together.
#[derive(Debug)]
struct Round<T> {
    /// The results, and how many are not there yet.
    results: Mutex<(Vec<Option<T>>, usize)>,
    /// All are there.
    end: Condvar,
}

impl<T> Round<T> {
    /// Waits for them. Who waits is woken once.
    fn results(&self) -> Vec<Option<T>> {
        let results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        let mut results = self
            .end
            .wait_while(results, |(_, left)| *left > 0)
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut results.0)
    }

    fn put(&self, number: usize, result: Option<T>) {
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        results.0[number] = result;
        results.1 -= 1;
        if results.1 == 0 {
            self.end.notify_all();
        }
    }
}

impl Desk {
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Box<dyn FnOnce() + Send>> {
        self.work().tasks.pop_front()
    }

    /// What a thread does.
    fn help(&self) {
        loop {
            let (mut work, _) = self
                .news
                .wait_timeout_while(self.work(), IDLE_TIME, |work| work.tasks.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            let Some(task) = work.tasks.pop_front() else {
                work.threads -= 1;
                return;
            };
            drop(work);
            task();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn squares(helpers: &Helpers, count: usize) -> Vec<Option<usize>> {
        let tasks = (0..count).map(|number| -> Box<dyn FnOnce() -> usize + Send> {
            Box::new(move || number * number)
        });
        helpers.do_all(tasks.collect())
    }

    #[test]
    fn each_thing_is_done_once() {
        let helpers = Helpers::default();
        for count in [0, 1, 3, 100, 2] {
            let expected: Vec<_> = (0..count).map(|number| Some(number * number)).collect();
            assert_eq!(squares(&helpers, count), expected);
            assert!(helpers.0.work().threads < AT_ONCE);
        }
    }

    /// As many as there may be at once meet each other, which no fewer threads could.
    #[test]
    fn things_are_done_at_the_same_time() {
        let helpers = Helpers::default();
        let meeting = Arc::new(std::sync::Barrier::new(AT_ONCE));
        let tasks = (0..3 * AT_ONCE).map(|_| -> Box<dyn FnOnce() + Send> {
            let meeting = Arc::clone(&meeting);
            Box::new(move || {
                meeting.wait();
            })
        });
        assert_eq!(helpers.do_all(tasks.collect()).len(), 3 * AT_ONCE);
    }

    #[test]
    fn one_that_panics_is_missing_and_the_others_are_done() {
        let helpers = Helpers::default();
        let tasks = (0..5 * AT_ONCE).map(|number| -> Box<dyn FnOnce() -> usize + Send> {
            Box::new(move || {
                assert_ne!(number % 3, 1, "meant to panic");
                number
            })
        });
        let results = helpers.do_all(tasks.collect());
        for (number, result) in results.into_iter().enumerate() {
            assert_eq!(result, (number % 3 != 1).then_some(number));
        }
        assert!(helpers.0.work().tasks.is_empty());
        assert_eq!(squares(&helpers, 3), [Some(0), Some(1), Some(4)]);
    }
}
