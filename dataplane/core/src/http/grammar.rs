//! Byte classes of RFC 9110, 9112 and 3986, and the searches that use them.

/// Characters of a token: field names, methods, list elements.
const TOKEN: u8 = 1;
/// Characters of a path, `/` and `%` included.
const PATH: u8 = 2;
/// Characters of a host name or IPv4 address.
const HOST: u8 = 4;
/// Characters that never need an escape.
const UNRESERVED: u8 = 8;

/// `_`, which some servers take for `-`.
const UNDERSCORE: u8 = 16;

static CLASS: [u8; 256] = classes();
static HEX: [u8; 256] = hex_digits();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    mark(&mut table, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~", TOKEN);
    mark(&mut table, b"!#$%&'*+^`|", TOKEN);
    mark(&mut table, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~", PATH | HOST | UNRESERVED);
    mark(&mut table, b"!$&'()*+,;=:@/%", PATH);
    mark(&mut table, b"_", UNDERSCORE);
    table
}

const fn mark(table: &mut [u8; 256], members: &[u8], class: u8) {
    let mut i = 0;
    while i < members.len() {
        table[members[i] as usize] |= class;
        i += 1;
    }
}

const fn hex_digits() -> [u8; 256] {
    let mut table = [0xff; 256];
    let mut i = 0;
    while i < 16 {
        table[b"0123456789abcdef"[i] as usize] = i as u8;
        table[b"0123456789ABCDEF"[i] as usize] = i as u8;
        i += 1;
    }
    table
}

pub(super) fn is_token(b: u8) -> bool {
    CLASS[b as usize] & TOKEN != 0
}

pub(super) fn is_path(b: u8) -> bool {
    CLASS[b as usize] & PATH != 0
}

pub(super) fn is_host(b: u8) -> bool {
    CLASS[b as usize] & HOST != 0
}

pub(super) fn is_unreserved(b: u8) -> bool {
    CLASS[b as usize] & UNRESERVED != 0
}

pub(super) fn is_blank(b: u8) -> bool {
    b == b' ' || b == b'\t'
}

/// Whether a field value may hold this byte: no control character but the tab.
pub(super) fn is_value(b: u8) -> bool {
    b >= b' ' && b != 0x7f || b == b'\t'
}

/// The value of a hexadecimal digit.
pub(super) fn hex(b: u8) -> Option<u8> {
    let digit = HEX[b as usize];
    if digit == 0xff { None } else { Some(digit) }
}

/// Whether this is a token of at least one character.
pub(super) fn all_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| is_token(b))
}

/// The length of the token at the start, and whether it holds `_`.
#[inline]
pub(super) fn token(bytes: &[u8]) -> (usize, bool) {
    let mut seen = 0;
    for (i, &b) in bytes.iter().enumerate() {
        let class = CLASS[b as usize];
        if class & TOKEN == 0 {
            return (i, seen & UNDERSCORE != 0);
        }
        seen |= class;
    }
    (bytes.len(), seen & UNDERSCORE != 0)
}

/// A decimal number below 2^63.
pub(super) fn length(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || bytes.len() > 19 || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n = bytes.iter().fold(0u64, |n, b| n * 10 + u64::from(b - b'0'));
    if n > i64::MAX as u64 { None } else { Some(n) }
}

/// The place of the first byte that no field value may hold, from `at` on; the length of `bytes` where there is none.
/// Eight bytes at a time: every byte of a head passes through here.
#[inline]
pub(super) fn find_control(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES * 128;
    while let Some(word) = bytes.get(at..at + 8) {
        let word = u64::from_le_bytes(word.try_into().expect("the slice has eight bytes"));
        let delete = word ^ (ONES * 0x7f);
        let low = word.wrapping_sub(ONES * 0x20) & !word;
        // A borrow can only mark bytes above a true match, so the lowest mark is exact.
        let found = (low | (delete.wrapping_sub(ONES) & !delete)) & HIGHS;
        if found == 0 {
            at += 8;
            continue;
        }
        at += found.trailing_zeros() as usize / 8;
        if bytes[at] != b'\t' {
            return at;
        }
        at += 1;
    }
    bytes[at..].iter().position(|&b| !is_value(b)).map_or(bytes.len(), |i| at + i)
}

/// The elements of a comma-separated list without the blanks around them; empty elements are skipped.
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim).filter(|element| !element.is_empty())
}

/// Without the spaces and tabs at both ends.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_blank(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_blank(*last)
    {
        bytes = rest;
    }
    bytes
}
