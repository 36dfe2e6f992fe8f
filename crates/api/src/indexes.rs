//! Sets of completion indexes of a Job, and the text they are stored as: `1,3-5,7`.

use std::fmt;

/// A set of indexes as ordered intervals that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Indexes(Vec<(u32, u32)>);

impl Indexes {
    /// Reads what a controller wrote. Fragments that are none, and indexes of `completions` and above
    /// (left over from before a job shrank), are passed over.
    pub fn parse_stored(text: &str, completions: u32) -> Self {
        let mut set = Self::default();
        for fragment in text.split(',') {
            let (first, last) = fragment.split_once('-').unwrap_or((fragment, fragment));
            let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) else { continue };
            if first < completions && first <= last {
                set.push(first, last.min(completions - 1));
            }
        }
        set
    }

    /// Reads what a person wrote.
    ///
    /// # Errors
    /// Why it is not a strictly increasing list of indexes below `completions`.
    pub fn parse(text: &str, completions: i64) -> Result<Self, String> {
        let mut set = Self::default();
        let mut last: Option<i64> = None;
        for fragment in text.split(',').filter(|_| !text.is_empty()) {
            let limits: Vec<&str> = fragment.split('-').collect();
            if limits.len() > 2 {
                return Err(format!(
                    "the fragment {fragment:?} violates the requirement that an index interval can have at most two parts separated by '-'"
                ));
            }
            let start = number(limits[0], completions)?;
            if let Some(previous) = last.filter(|l| *l >= start) {
                return Err(disorder(previous, start));
            }
            let end = limits.get(1).map_or(Ok(start), |l| number(l, completions))?;
            if limits.len() == 2 && start >= end {
                return Err(disorder(start, end));
            }
            last = Some(end);
            set.push(u32::try_from(start).unwrap_or(u32::MAX), u32::try_from(end).unwrap_or(u32::MAX));
        }
        Ok(set)
    }

    /// Appends an interval that begins after all others, or joins it to the last one.
    fn push(&mut self, first: u32, last: u32) {
        match self.0.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => self.0.push((first, last)),
        }
    }

    /// Both sets together.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all: Vec<(u32, u32)> = self.0.iter().chain(&other.0).copied().collect();
        all.sort_unstable();
        let mut set = Self::default();
        all.into_iter().for_each(|(first, last)| set.push(first, last));
        set
    }

    /// What is in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let (mut a, mut b) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut set = Self::default();
        while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
            let (first, last) = (x.0.max(y.0), x.1.min(y.1));
            if first <= last {
                set.push(first, last);
            }
            let shorter = if x.1 < y.1 { &mut a } else { &mut b };
            shorter.next();
        }
        set
    }

    /// Is the index in the set?
    pub fn has(&self, index: u32) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(at).is_some_and(|(first, _)| *first <= index)
    }

    /// How many indexes there are.
    pub fn total(&self) -> usize {
        self.0.iter().map(|(first, last)| (last - first) as usize + 1).sum()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first `count` indexes below `completions` that are not in the set.
    pub fn first_missing(&self, count: usize, completions: u32) -> Vec<u32> {
        let mut missing = Vec::new();
        let mut candidate = 0;
        for (first, last) in self.0.iter().copied().chain([(completions, completions)]) {
            let room = count - missing.len();
            missing.extend((candidate..first.min(completions)).take(room));
            candidate = candidate.max(last.saturating_add(1));
        }
        missing
    }
}

impl FromIterator<u32> for Indexes {
    fn from_iter<I: IntoIterator<Item = u32>>(indexes: I) -> Self {
        let mut all: Vec<u32> = indexes.into_iter().collect();
        all.sort_unstable();
        let mut set = Self::default();
        all.into_iter().for_each(|i| set.push(i, i));
        set
    }
}

impl fmt::Display for Indexes {
    /// Two neighbours are written apart (`3,4`), three and more as a range.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

fn number(text: &str, completions: i64) -> Result<i64, String> {
    let n: i64 = text.parse().map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
    if n >= completions { Err(format!("too large index: {text:?}")) } else { Ok(n) }
}

fn disorder(previous: i64, current: i64) -> String {
    format!("non-increasing order, previous: {previous}, current: {current}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_kubernetes_both_ways() {
        for text in ["", "0", "1,3-5,7", "0,1", "3,4,6,7", "0-2,9"] {
            assert_eq!(Indexes::parse_stored(text, 10).to_string(), text);
            assert_eq!(Indexes::parse(text, 10).map(|i| i.to_string()).as_deref(), Ok(text));
        }
        assert_eq!(Indexes::parse_stored("1,2,3,x,8-20", 10).to_string(), "1-3,8,9");
        assert_eq!(Indexes::parse_stored("1", 0), Indexes::default());
    }

    #[test]
    fn what_is_no_list_is_refused_with_the_reason() {
        for (text, why) in [
            (
                "1-2-3",
                "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts separated by '-'",
            ),
            ("a", "cannot convert string to integer for index: \"a\""),
            ("1-x", "cannot convert string to integer for index: \"x\""),
            ("5", "too large index: \"5\""),
            ("3,2", "non-increasing order, previous: 3, current: 2"),
            ("3-3", "non-increasing order, previous: 3, current: 3"),
        ] {
            assert_eq!(Indexes::parse(text, 5).err().as_deref(), Some(why));
        }
    }

    #[test]
    fn sets_are_joined_cut_counted_and_searched() {
        let set: Indexes = [7, 1, 0, 4].into_iter().collect();
        let other = Indexes::parse_stored("2,3,7-9", 20);
        assert_eq!(set.union(&other).to_string(), "0-4,7-9");
        assert_eq!(set.intersection(&other).to_string(), "7");
        assert_eq!((set.total(), other.total(), set.has(4), set.has(5)), (4, 5, true, false));
        assert_eq!(set.first_missing(3, 6), [2, 3, 5]);
        assert_eq!(set.first_missing(1, 6), [2]);
        assert_eq!(set.first_missing(9, 1), Vec::<u32>::new());
    }
}
