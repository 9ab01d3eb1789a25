//! The decoder of dot-stuffed text against a reference that looks at all of it at once, however
//! the octets are cut; and what the encoder writes is read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use minismtp::wire::dot::{Decoder, Encoder};
use minismtp::wire::line::LineEnd;
use minismtp_fuzz::{Dice, Reading, take_octet, take_seed};

fn read(mut decoder: Decoder, pieces: &[&[u8]], is_counted: bool) -> Option<Reading> {
    let (mut text, mut used) = (Vec::new(), 0);
    for piece in pieces {
        let taken = decoder.decode(piece, &mut text);
        used += taken;
        assert!(taken == piece.len() || decoder.is_finished());
        if decoder.is_finished() {
            break;
        }
    }
    if is_counted {
        assert!(!decoder.is_finished());
        decoder.finish(&mut text);
    }
    if !decoder.is_finished() {
        return None;
    }
    if decoder.has_bare_line_end() {
        return Some(Reading { text: None, used });
    }
    let line_feeds = text.iter().filter(|&&octet| octet == b'\n').count();
    assert_eq!(decoder.octets(), (text.len() + line_feeds) as u64);
    Some(Reading {
        text: Some(text),
        used,
    })
}

fuzz_target!(|input: &[u8]| {
    let mut octets = input;
    let choices = take_octet(&mut octets);
    let mut dice = Dice::new(take_seed(&mut octets));
    let line_end = if choices & 1 == 0 {
        LineEnd::Crlf
    } else {
        LineEnd::Any
    };
    let pieces = dice.cut(octets, 1 + usize::from(choices >> 3));

    if choices & 2 == 0 {
        let expected = Reading::of(octets, line_end);
        assert_eq!(read(Decoder::new(line_end), &[octets], false), expected);
        assert_eq!(read(Decoder::new(line_end), &pieces, false), expected);
    } else {
        let expected = Some(Reading::counted(octets, line_end));
        assert_eq!(read(Decoder::counted(line_end), &[octets], true), expected);
        assert_eq!(read(Decoder::counted(line_end), &pieces, true), expected);
    }

    // What is written is read back: octets of any kind but CR, which no text has here.
    let text: Vec<u8> = octets
        .iter()
        .copied()
        .filter(|&octet| octet != b'\r')
        .collect();
    let is_wire = choices & 4 == 0;
    let mut encoder = if is_wire {
        Encoder::wire()
    } else {
        Encoder::file()
    };
    let mut wire = Vec::new();
    for piece in dice.cut(&text, 1 + usize::from(choices >> 3)) {
        encoder.encode(piece, &mut wire);
    }
    encoder.finish(&mut wire);
    let line_end = if is_wire { LineEnd::Crlf } else { LineEnd::Any };
    let mut expected = text;
    if expected.last().is_some_and(|&octet| octet != b'\n') {
        expected.push(b'\n');
    }
    let used = wire.len();
    wire.extend_from_slice(octets);
    let expected = Some(Reading {
        text: Some(expected),
        used,
    });
    assert_eq!(read(Decoder::new(line_end), &[&wire], false), expected);
});
