//! What the targets share.

use minismtp::wire::line::LineEnd;

/// Decides by its seed, always the same.
pub struct Dice(u64);

impl Dice {
    /// Begins with a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit.max(1)
    }

    /// Cuts octets into pieces of one to so many.
    pub fn cut<'a>(&mut self, octets: &'a [u8], piece_max: usize) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        let mut rest = octets;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((1 + self.below(piece_max)).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces
    }
}

/// Takes the first octet for a number of choices; 0 where there is none.
pub fn take_octet(octets: &mut &[u8]) -> u8 {
    let Some((first, rest)) = octets.split_first() else {
        return 0;
    };
    *octets = rest;
    *first
}

/// Takes the first eight octets, or fewer, for a seed.
pub fn take_seed(octets: &mut &[u8]) -> u64 {
    (0..8).fold(0, |seed, _| seed << 8 | u64::from(take_octet(octets)))
}

/// Lines up to each line feed, LF and a CR before it taken off; the last one may have no end.
pub fn lines(octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    octets.split_inclusive(|&octet| octet == b'\n').map(|line| {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        line.strip_suffix(b"\r").unwrap_or(line)
    })
}

/// Text up to a lone full stop, read by looking at all of it at once.
#[derive(Debug, PartialEq, Eq)]
pub struct Reading {
    /// With LF line ends; nothing where there is a bare CR or LF: it is refused then.
    pub text: Option<Vec<u8>>,
    /// How many octets it took.
    pub used: usize,
}

impl Reading {
    /// Reads dot-stuffed text; `None` where it has no end.
    #[must_use]
    pub fn of(octets: &[u8], line_end: LineEnd) -> Option<Self> {
        let (mut text, mut is_good) = (Vec::new(), true);
        let lines = split(octets, line_end);
        for (line, used) in &lines[..lines.len() - 1] {
            if *line == b"." {
                let text = is_good.then_some(text);
                return Some(Self { text, used: *used });
            }
            is_good &= !is_bare(line);
            text.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
            text.push(b'\n');
        }
        None
    }

    /// Reads text that is all there is, and not stuffed.
    #[must_use]
    pub fn counted(octets: &[u8], line_end: LineEnd) -> Self {
        let (mut text, mut is_good) = (Vec::new(), true);
        let lines = split(octets, line_end);
        for (at, (line, _)) in lines.iter().enumerate() {
            let is_open = at + 1 == lines.len();
            if is_open && line.is_empty() {
                break;
            }
            is_good &= !is_bare(line);
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        Self {
            text: is_good.then_some(text),
            used: octets.len(),
        }
    }
}

/// Splits at every end of a line; each with where the next one begins. The last has no end.
fn split(octets: &[u8], line_end: LineEnd) -> Vec<(&[u8], usize)> {
    let end: &[u8] = if line_end == LineEnd::Crlf {
        b"\r\n"
    } else {
        b"\n"
    };
    let mut lines = Vec::new();
    let mut start = 0;
    while let Some(length) = octets[start..].windows(end.len()).position(|at| at == end) {
        let line = &octets[start..start + length];
        start += length + end.len();
        let is_netcat = line_end == LineEnd::Any;
        let line = line
            .strip_suffix(b"\r")
            .filter(|_| is_netcat)
            .unwrap_or(line);
        lines.push((line, start));
    }
    lines.push((&octets[start..], octets.len()));
    lines
}

fn is_bare(line: &[u8]) -> bool {
    line.iter().any(|octet| b"\r\n".contains(octet))
}
