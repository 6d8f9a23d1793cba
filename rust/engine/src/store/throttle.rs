//! How many requests may be under way at once: fewer while a store says that it is asked too much (429, 503).
//!
//! Additive increase, multiplicative decrease. A refusal halves the window, once for all requests that were under way together;
//! a window full of answers lets in one more. A turn ends with the head of the answer: a body that is still read was granted.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// As many as anybody asks for; the verbs bound themselves further down.
const MOST: f64 = 256.0;

/// What a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It was carried out or refused for what it asked.
    Served,
    /// The store wants fewer requests.
    TooMuch,
    /// No answer, or one that says nothing of the load.
    Unclear,
}

/// The decisions, without clocks and waits.
#[derive(Debug)]
struct Window {
    size: f64,
    in_flight: usize,
    /// How often the window was halved.
    age: u64,
}

impl Default for Window {
    fn default() -> Self {
        Window {
            size: MOST,
            in_flight: 0,
            age: 0,
        }
    }
}

impl Window {
    /// Lets a request start if there is room; returns the age of the window that it belongs to.
    fn start(&mut self) -> Option<u64> {
        if self.in_flight >= self.size as usize {
            return None;
        }
        self.in_flight += 1;
        Some(self.age)
    }

    /// A request of the window of `age` has ended. Answers to older windows say nothing of this one.
    fn finish(&mut self, age: u64, answer: Answer) {
        let together = self.in_flight as f64;
        self.in_flight = self.in_flight.saturating_sub(1);
        if age != self.age {
            return;
        }
        match answer {
            Answer::Served => self.size = (self.size + 1.0 / self.size).min(MOST),
            Answer::TooMuch => {
                // Half of what was really under way: a window that nobody filled does not shrink by its size.
                self.size = (self.size.min(together) / 2.0).floor().max(1.0);
                self.age += 1;
            }
            Answer::Unclear => {}
        }
    }
}

/// One window for all clients of a store.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    window: Mutex<Window>,
    freed: Notify,
}

impl Throttle {
    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room; a caller with a deadline stops waiting by itself.
    pub(super) async fn turn(&self) -> Turn<'_> {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            // From here on no end of a turn is missed.
            freed.as_mut().enable();
            let started = self.window().start();
            if let Some(age) = started {
                return Turn {
                    throttle: self,
                    age,
                    answer: Answer::Unclear,
                };
            }
            freed.await;
        }
    }
}

/// The right to have one request under way; given back when dropped, whatever became of it.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    throttle: &'a Throttle,
    age: u64,
    pub(super) answer: Answer,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.throttle.window().finish(self.age, self.answer);
        self.throttle.freed.notify_waiters();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn full(window: &mut Window) -> Vec<u64> {
        std::iter::from_fn(|| window.start()).collect()
    }

    #[test]
    fn a_refusal_halves_once_and_answers_let_one_more_in() {
        let mut window = Window::default();
        let first = full(&mut window);
        assert_eq!(first.len(), 256);
        // All that were under way together are refused: one halving.
        for age in first {
            window.finish(age, Answer::TooMuch);
        }
        assert_eq!((window.size, window.age, window.in_flight), (128.0, 1, 0));
        let second = full(&mut window);
        assert_eq!(second.len(), 128);
        for age in second {
            window.finish(age, Answer::Served);
        }
        // A little under one more, since the window grows meanwhile.
        assert_eq!(full(&mut window).len(), 128);
        assert!(window.size > 128.9 && window.size <= 129.0);
    }

    #[test]
    fn a_window_that_nobody_filled_shrinks_to_half_of_what_ran() {
        let mut window = Window::default();
        let ages: Vec<u64> = (0..8).map(|_| window.start().unwrap()).collect();
        window.finish(ages[0], Answer::TooMuch);
        assert_eq!(window.size, 4.0);
        // Seven are still under way: nobody starts until fewer than four are.
        for age in &ages[1..4] {
            assert_eq!(window.start(), None);
            window.finish(*age, Answer::Served);
        }
        assert_eq!((window.size, window.start()), (4.0, None));
        window.finish(ages[4], Answer::Unclear);
        assert_eq!(window.start(), Some(1));
    }

    proptest! {
        #[test]
        fn somebody_may_always_start_and_never_too_many(steps in prop::collection::vec(0..4_u8, 1..400)) {
            let mut window = Window::default();
            let mut running = Vec::new();
            for step in steps {
                match step {
                    0 => {
                        let room = running.len() < window.size as usize;
                        let started = window.start();
                        prop_assert_eq!(started.is_some(), room);
                        running.extend(started);
                    }
                    1 if !running.is_empty() => window.finish(running.remove(0), Answer::TooMuch),
                    2 if !running.is_empty() => window.finish(running.remove(0), Answer::Served),
                    3 => while let Some(age) = running.pop() {
                        window.finish(age, Answer::Unclear);
                    },
                    _ => {}
                }
                prop_assert_eq!(window.in_flight, running.len());
                prop_assert!((1.0..=MOST).contains(&window.size));
            }
        }
    }

    #[tokio::test]
    async fn a_turn_that_is_given_up_lets_the_next_one_in() {
        let throttle = Throttle::default();
        let mut refused = throttle.turn().await;
        refused.answer = Answer::TooMuch;
        drop(refused);
        assert_eq!(throttle.window().size, 1.0);
        let held = throttle.turn().await;
        let mut waits = std::pin::pin!(throttle.turn());
        let soon = std::time::Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, &mut waits).await.is_err());
        drop(held);
        drop(waits.await);
        assert_eq!(throttle.window().in_flight, 0);
    }
}
