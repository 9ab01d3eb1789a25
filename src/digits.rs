//! Numbers as text, for what every message has: formatting takes five times as long.

/// The most digits of a number to a base of 10 or more.
const DIGITS_MAX: usize = 20;

/// Appends a number to this base, of 10 to 16.
pub(crate) fn push_number<const BASE: u64>(text: &mut String, mut number: u64) {
    if number < BASE {
        return text.push(char::from(digit::<BASE>(number)));
    }
    let mut digits = [0; DIGITS_MAX];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = digit::<BASE>(number);
        number /= BASE;
        if number == 0 {
            break;
        }
    }
    text.push_str(str::from_utf8(&digits[at..]).unwrap_or_default());
}

/// Appends two digits of a number below 100.
pub(crate) fn push_two(text: &mut String, number: u32) {
    for number in [number / 10, number] {
        text.push(char::from(digit::<10>(number.into())));
    }
}

/// The last digit of a number.
fn digit<const BASE: u64>(number: u64) -> u8 {
    b"0123456789abcdef"[usize::try_from(number % BASE).unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_are_formatted() {
        for number in [0, 9, 10, 255, 256, 1_616_402_405, u64::MAX] {
            let (mut decimal, mut hexadecimal) = (String::new(), String::new());
            push_number::<10>(&mut decimal, number);
            push_number::<16>(&mut hexadecimal, number);
            assert_eq!(decimal, format!("{number}"));
            assert_eq!(hexadecimal, format!("{number:x}"));
        }
    }
}
