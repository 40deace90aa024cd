//! The normal form of a path.
//!
//! Decides: which spellings are one path, and where its segments end. May not know: routes, what a path is for.
//! Invariant: a normal path holds no dot segment and, but right after a stray `%`, no escape of an unreserved character;
//! it is its own normal form.
//!
//! Slashes are not merged and `%2F` is not `/` (RFC 3986 section 2.2): what a backend makes of them, and of `\`, `;` or
//! what is escaped twice, is its own reading.

/// Paths up to this length need no allocation.
const STACK_BYTES: usize = 1024;

/// Shows `then` the normal form of a path.
pub(in crate::policy) fn with_normal<T>(path: &[u8], then: impl FnOnce(&[u8]) -> T) -> T {
    if is_normal(path) {
        return then(path);
    }
    let (mut stack, mut heap) = ([0; STACK_BYTES], Vec::new());
    then(normalise(path, &mut stack, &mut heap))
}

/// Whether a segment ends before `at`: the prefix of that length covers the path.
pub(in crate::policy) fn is_border(path: &[u8], at: usize) -> bool {
    path.len() == at || path[at] == b'/' || path[..at].ends_with(b"/")
}

/// The path with dot segments removed (RFC 3986 section 5.2.4) and escapes of unreserved characters
/// decoded (section 6.2.2.2). The result is never longer than the path, so that long ones alone
/// need the heap.
fn normalise<'a>(
    path: &'a [u8],
    stack: &'a mut [u8; STACK_BYTES],
    heap: &'a mut Vec<u8>,
) -> &'a [u8] {
    let space = if path.len() <= stack.len() {
        &mut stack[..]
    } else {
        heap.resize(path.len(), 0);
        &mut heap[..]
    };
    let length = write_normal(path, space);
    &space[..length]
}

/// No escape, and no segment that begins with a dot (more than needed, but cheap to see).
pub(super) fn is_normal(path: &[u8]) -> bool {
    memchr::memchr2_iter(b'%', b'.', path)
        .all(|at| path[at] == b'.' && at.checked_sub(1).is_some_and(|before| path[before] != b'/'))
}

fn write_normal(path: &[u8], out: &mut [u8]) -> usize {
    let mut length = 0;
    let mut segments = path.split(|byte| *byte == b'/').peekable();
    // What stands before the first slash is nothing, in a path that begins with one.
    length += decode(segments.next().unwrap_or_default(), out);
    while let Some(segment) = segments.next() {
        let start = length;
        out[start] = b'/';
        length = start + 1 + decode(segment, &mut out[start + 1..]);
        let up = match &out[start + 1..length] {
            b"." => 0,
            b".." => 1,
            _ => continue,
        };
        length = start;
        if up == 1 {
            length = memchr::memrchr(b'/', &out[..start]).unwrap_or(0);
        }
        // A dot segment at the end leaves its slash: `/a/.` is `/a/`.
        if segments.peek().is_none() {
            out[length] = b'/';
            length += 1;
        }
    }
    length
}

/// Decodes escaped letters, digits, `-`, `.`, `_` and `~`; others stay.
fn decode(segment: &[u8], out: &mut [u8]) -> usize {
    let mut length = 0;
    let mut rest = segment;
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match unreserved_escape(rest) {
            Some(byte) if !completes_escape(&out[..length], byte) => (byte, &rest[3..]),
            Some(_) | None => (*first, tail),
        };
        out[length] = byte;
        length += 1;
        rest = tail;
    }
    length
}

/// Whether a decoded byte would make an escape of what was none: `%%32e` is not `%2e`, which another reading would turn
/// into a dot.
fn completes_escape(before: &[u8], byte: u8) -> bool {
    byte.is_ascii_hexdigit()
        && match before {
            [.., b'%'] => true,
            [.., b'%', digit] => digit.is_ascii_hexdigit(),
            [] | [_, ..] => false,
        }
}

fn unreserved_escape(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else {
        return None;
    };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?;
    (byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)).then_some(byte)
}
