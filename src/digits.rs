//! Numbers as text, for what every message has: formatting takes five times as long.

/// Appends a number to this base, 16 at most.
pub(crate) fn push_number<const BASE: u64>(text: &mut String, number: u64) {
    if number >= BASE {
        push_number::<BASE>(text, number / BASE);
    }
    push_digit::<BASE>(text, number);
}

/// Appends the last digit of a number.
pub(crate) fn push_digit<const BASE: u64>(text: &mut String, number: u64) {
    let digit = u32::try_from(number % BASE).unwrap_or_default();
    text.push(char::from_digit(digit, 16).unwrap_or_default());
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
