//! The numbered snapshot of a session: sizes, what is deleted, where READM is.

use crate::user::UserName;

/// An open maildrop. Numbers count from 1 and never change.
#[derive(Debug)]
pub(super) struct Maildrop {
    user: UserName,
    messages: Vec<Entry>,
    /// Messages that are not deleted, and their octets.
    kept: usize,
    kept_octets: u64,
    marked: usize,
    /// How many messages READM has passed.
    passed: usize,
    /// What READM showed last, while it is there.
    shown: Option<usize>,
}

/// Nine octets a message, padded: there may be very many.
#[derive(Clone, Copy, Debug)]
struct Entry {
    octets: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Kept,
    /// DELE: gone at QUIT.
    Marked,
    /// DELM: gone.
    Removed,
}

impl Maildrop {
    /// Opens a maildrop with messages of these sizes.
    pub(super) fn new(user: UserName, octets: &[u64]) -> Self {
        let state = State::Kept;
        let messages = octets.iter().map(|&octets| Entry { octets, state });
        Self {
            user,
            messages: messages.collect(),
            kept: octets.len(),
            kept_octets: octets.iter().sum(),
            marked: 0,
            passed: 0,
            shown: None,
        }
    }

    pub(super) fn user(&self) -> &UserName {
        &self.user
    }

    /// How many messages there are, deleted ones included.
    pub(super) fn count(&self) -> usize {
        self.messages.len()
    }

    /// How many messages are not deleted, and their octets.
    pub(super) fn stat(&self) -> (usize, u64) {
        (self.kept, self.kept_octets)
    }

    /// The size of a message; `None` if it is deleted or there is none.
    pub(super) fn size(&self, number: usize) -> Option<u64> {
        let entry = self.messages.get(number.checked_sub(1)?)?;
        (entry.state == State::Kept).then_some(entry.octets)
    }

    /// The messages after that number that are not deleted, with their sizes.
    pub(super) fn after(&self, number: usize) -> impl Iterator<Item = (usize, u64)> + '_ {
        let messages = self.messages.iter().enumerate().skip(number);
        let kept = messages.filter(|(_, entry)| entry.state == State::Kept);
        kept.map(|(index, entry)| (index + 1, entry.octets))
    }

    /// Marks a message; false if it is deleted or there is none.
    pub(super) fn mark(&mut self, number: usize) -> bool {
        let is_there = self.size(number).is_some();
        if is_there {
            self.change(number, State::Marked);
        }
        is_there
    }

    /// Unmarks all.
    pub(super) fn reset(&mut self) {
        for number in self.marks() {
            self.change(number, State::Kept);
        }
    }

    pub(super) fn marked(&self) -> usize {
        self.marked
    }

    /// What QUIT has to remove.
    pub(super) fn marks(&self) -> Vec<usize> {
        let messages = self.messages.iter().enumerate();
        let marked = messages.filter(|(_, entry)| entry.state == State::Marked);
        marked.map(|(index, _)| index + 1).collect()
    }

    /// The message that READM has to show; after the last one `None`, and the first is next.
    pub(super) fn advance(&mut self) -> Option<usize> {
        let next = self.after(self.passed).next().map(|(number, _)| number);
        self.passed = next.unwrap_or(0);
        next
    }

    /// READM could not show this message: it is next again.
    pub(super) fn step_back(&mut self, number: usize) {
        self.passed = number.saturating_sub(1);
    }

    /// Takes the sizes of the messages that there are now: those that are left, numbered anew, and what
    /// has come behind them. Gives the first of these, as [`Maildrop::advance`] does.
    pub(super) fn renew(&mut self, octets: &[u64]) -> Option<usize> {
        let left = self.kept;
        let before = |number| self.kept - self.after(number).count();
        let shown = self.shown.map(before);
        *self = Self::new(self.user.clone(), octets);
        self.shown = shown;
        self.passed = left;
        self.advance()
    }

    /// READM has shown this message, all of it.
    pub(super) fn has_shown(&mut self, number: usize) {
        self.shown = Some(number);
    }

    /// What DELM would remove.
    pub(super) fn shown(&self) -> Option<usize> {
        self.shown
    }

    /// DELM has removed this message.
    pub(super) fn removed(&mut self, number: usize) {
        self.change(number, State::Removed);
        self.shown = None;
    }

    fn change(&mut self, number: usize, to: State) {
        let Some(entry) = number
            .checked_sub(1)
            .and_then(|at| self.messages.get_mut(at))
        else {
            return;
        };
        let (from, octets) = (entry.state, entry.octets);
        entry.state = to;
        match from {
            State::Kept => {
                self.kept -= 1;
                self.kept_octets -= octets;
            }
            State::Marked => self.marked -= 1,
            State::Removed => {}
        }
        match to {
            State::Kept => {
                self.kept += 1;
                self.kept_octets += octets;
            }
            State::Marked => self.marked += 1,
            State::Removed => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maildrop(octets: &[u64]) -> Maildrop {
        Maildrop::new(UserName::new("a").unwrap(), octets)
    }

    #[test]
    fn numbers_stay_and_totals_follow() {
        let mut drop = maildrop(&[10, 20, 30]);
        assert_eq!(
            (drop.stat(), drop.size(0), drop.size(4)),
            ((3, 60), None, None)
        );
        assert!(drop.mark(2) && !drop.mark(2) && !drop.mark(0) && !drop.mark(4));
        assert_eq!(
            (drop.stat(), drop.size(2), drop.size(3)),
            ((2, 40), None, Some(30))
        );
        assert_eq!((drop.marks(), drop.marked()), (vec![2], 1));
        assert_eq!(drop.after(1).collect::<Vec<_>>(), [(3, 30)]);
        drop.removed(1);
        drop.reset();
        assert_eq!(
            (drop.stat(), drop.size(1), drop.marked()),
            ((2, 50), None, 0)
        );
    }

    #[test]
    fn readm_goes_round() {
        let mut drop = maildrop(&[1, 1, 1]);
        assert_eq!(drop.advance(), Some(1));
        drop.has_shown(1);
        drop.removed(1);
        assert_eq!(drop.shown(), None);
        drop.mark(2);
        let round: Vec<_> = (0..4).map(|_| drop.advance()).collect();
        assert_eq!(round, [Some(3), None, Some(3), None]);
        assert_eq!(maildrop(&[]).advance(), None);
    }
}
