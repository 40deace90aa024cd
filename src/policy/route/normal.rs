//! The normal form of a path.
//!
//! Decides: which spellings are one path, and where its segments end. May not know: routes, what a path is for.
//! Invariant: a normal path holds no two slashes in a row, no dot segment and, but right after a stray `%`, no escape of a
//! slash or an unreserved character; it is its own normal form.
//!
//! RFC 3986 section 2.2 lets `%2F` and `//` differ from `/`, but many backends read them alike: a rule for `/app` that
//! `//app` and `/app%2fx` went round would keep nobody out. So they are read as nginx reads them. What a backend makes of
//! `\` (browsers and IIS: a slash), of `;`, of other reserved characters when they are escaped, or of what is escaped
//! twice, is its own reading. So is `/app/..%2fx`, which stays below `/app` where `%2F` is part of a name: no one form fits
//! all backends. A rewrite, even one that puts on no more than `/`, sends the form itself.

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

/// The result is never longer than the path, so that long ones alone need the heap.
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

/// No escape, and no segment that is empty or begins with a dot (more than needed, but cheap to see).
pub(super) fn is_normal(path: &[u8]) -> bool {
    let pairs = path.iter().zip(path.iter().skip(1));
    // Every request comes through here. Without a way out in the middle it is vector code: slashes are too frequent for
    // a search that stops at each.
    let is_odd = pairs.fold(false, |is_odd, (byte, next)| {
        is_odd | (*byte == b'%') | ((*byte == b'/') & ((*next == b'/') | (*next == b'.')))
    });
    !is_odd
}

/// Decodes, merges slashes, then removes dot segments (RFC 3986 sections 6.2.2.2 and 5.2.4): `/a%2f/../b` is `/b`.
fn write_normal(path: &[u8], out: &mut [u8]) -> usize {
    let (mut start, mut length) = (0, 0);
    let mut rest = path;
    while let Some((byte, tail)) = first_byte(rest, &out[..length]) {
        rest = tail;
        if byte == b'/' {
            length = without_dots(&out[..length], start);
            start = length;
            if out[..length].ends_with(b"/") {
                continue;
            }
            start += 1;
        }
        out[length] = byte;
        length += 1;
    }
    without_dots(&out[..length], start)
}

/// Where the path ends once its last segment, which begins at `start`, is resolved. A dot segment leaves its slash: `/a/.`
/// is `/a/`.
fn without_dots(path: &[u8], start: usize) -> usize {
    match &path[start..] {
        b"." => start,
        b".." => {
            let parent = path[..start].strip_suffix(b"/").unwrap_or_default();
            memchr::memrchr(b'/', parent).map_or(start.min(1), |slash| slash + 1)
        }
        _ => path.len(),
    }
}

/// The first byte and what follows it. Escaped letters, digits, `-`, `.`, `_`, `~` and `/` are decoded.
fn first_byte<'p>(rest: &'p [u8], before: &[u8]) -> Option<(u8, &'p [u8])> {
    match decoded(rest) {
        Some(byte) if !completes_escape(before, byte) => Some((byte, &rest[3..])),
        Some(_) | None => rest.split_first().map(|(byte, tail)| (*byte, tail)),
    }
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

fn decoded(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else {
        return None;
    };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?;
    (byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte)).then_some(byte)
}
