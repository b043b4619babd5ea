//! The alphabet of byte-level BPE: every byte written as a visible character.
//!
//! GPT-2 keeps the bytes that are printable in Latin-1 as they are and gives the others U+0100, U+0101, … in order, so
//! that a space is written `Ġ` and a newline `Ċ` (Radford et al. 2019, `bytes_to_unicode` of the released encoder).

/// One past the last character of the alphabet: 256 and the 68 bytes that are not printable.
const END: usize = 256 + 68;

/// No byte is written as this character.
const NO_BYTE: u16 = u16::MAX;

const fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

/// By byte: its character.
const CHARACTERS: [char; 256] = {
    let mut characters = ['\0'; 256];
    let mut moved = 0;
    let mut byte = 0;
    while byte < 256 {
        characters[byte] = if is_printable(byte as u8) {
            byte as u8 as char
        } else {
            moved += 1;
            match char::from_u32(255 + moved) {
                Some(character) => character,
                None => unreachable!(),
            }
        };
        byte += 1;
    }
    characters
};

/// By character: its byte.
const BYTES: [u16; END] = {
    let mut bytes = [NO_BYTE; END];
    let mut byte = 0;
    while byte < 256 {
        bytes[CHARACTERS[byte] as usize] = byte as u16;
        byte += 1;
    }
    bytes
};

/// The character that stands for a byte.
pub(super) fn character(byte: u8) -> char {
    CHARACTERS[byte as usize]
}

/// Appends `bytes` in the alphabet, as UTF-8.
pub(super) fn write(bytes: &[u8], out: &mut String) {
    out.extend(bytes.iter().map(|&byte| character(byte)));
}

/// Appends the bytes that a token stands for. What is not in the alphabet (or not UTF-8) is taken as it is.
pub(super) fn read(token: &[u8], out: &mut Vec<u8>) {
    for chunk in token.utf8_chunks() {
        for character in chunk.valid().chars() {
            match BYTES.get(character as usize) {
                Some(&byte) if byte != NO_BYTE => out.push(byte as u8),
                _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        out.extend_from_slice(chunk.invalid());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_the_published_one() {
        assert_eq!(character(b' '), 'Ġ');
        assert_eq!(character(b'\n'), 'Ċ');
        assert_eq!(character(0), 'Ā');
        assert_eq!(character(0xad), 'Ń');
        assert_eq!(character(b'a'), 'a');
        assert_eq!(character(0xe9), 'é');
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        let (mut text, mut bytes) = (String::new(), Vec::new());
        write(&all, &mut text);
        assert_eq!(text.chars().collect::<std::collections::HashSet<_>>().len(), 256);
        read(text.as_bytes(), &mut bytes);
        assert_eq!(bytes, all);
    }

    #[test]
    fn what_is_not_in_the_alphabet_stays() {
        let mut bytes = Vec::new();
        read("aĠ你".as_bytes(), &mut bytes);
        read(b"\xff", &mut bytes);
        assert_eq!(bytes, [b"a ", "你".as_bytes(), b"\xff"].concat());
    }
}
