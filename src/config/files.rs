//! Values that stand in files of their own: `file:/path`.
//!
//! Decides: which values name a file, and what of it is the value. May not know: how files are read (given), keys.
//! Invariant: a file counts as if its text stood in its place; no report repeats what stands in it.

use std::borrow::Cow;
use std::io;
use std::path::Path;

use super::report::Fault;

/// Reads a whole file, or its beginning if that is longer than [`FILE_BYTES_MAX`].
pub type Files<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

pub const FILE_BYTES_MAX: usize = 1024 * 1024;

const MARK: &str = "file:";

/// For texts that can name no file.
pub(super) fn none(_: &Path) -> io::Result<Vec<u8>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The path in a value that names a file.
pub(super) fn path(written: &str) -> Option<&str> {
    written.strip_prefix(MARK)
}

/// The value: what was written, or what stands in the file.
pub(super) fn text<'a>(written: &'a str, files: Files<'_>) -> Result<Cow<'a, str>, Fault> {
    let Some(path) = path(written) else {
        return Ok(written.into());
    };
    if !path.starts_with('/') {
        let fault = Fault::new(format!("\"{path}\" is no absolute path"));
        return Err(fault.hint("write \"file:/etc/corelane/…\""));
    }
    let bytes = files(Path::new(path))
        .map_err(|error| Fault::new(format!("cannot read {path}: {error}")))?;
    if bytes.len() > FILE_BYTES_MAX {
        let most = FILE_BYTES_MAX >> 20;
        return Err(Fault::new(format!("{path} has more than {most} MiB")));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(_) => Err(Fault::new(format!("{path} is not UTF-8"))),
    }
}

/// The same without the line end that editors leave.
pub(super) fn line<'a>(written: &'a str, files: Files<'_>) -> Result<Cow<'a, str>, Fault> {
    let text = text(written, files)?;
    if path(written).is_none() {
        return Ok(text);
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &Path) -> io::Result<Vec<u8>> {
        match path.to_str() {
            Some("/line") => Ok(b"a b\r\n".to_vec()),
            Some("/lines") => Ok(b"a\n\n".to_vec()),
            Some("/large") => Ok(vec![b'x'; FILE_BYTES_MAX + 1]),
            Some("/full") => Ok(vec![b'x'; FILE_BYTES_MAX]),
            Some("/latin1") => Ok(vec![0xe4]),
            Some(_) | None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    #[test]
    fn a_value_stands_in_its_place_or_in_a_file() {
        let full = "x".repeat(FILE_BYTES_MAX);
        for (written, expected) in [
            ("plain\n", Ok("plain\n")),
            ("File:/line", Ok("File:/line")),
            ("file:/line", Ok("a b")),
            ("file:/lines", Ok("a\n")),
            ("file:/full", Ok(full.as_str())),
            ("file:/large", Err("/large has more than 1 MiB")),
            ("file:/latin1", Err("/latin1 is not UTF-8")),
            ("file:line", Err("\"line\" is no absolute path")),
            ("file:/none", Err("cannot read /none: entity not found")),
        ] {
            let found = line(written, &file).map_err(|fault| fault.message);
            let found = found.as_deref().map_err(String::as_str);
            assert_eq!(found, expected, "{written}");
        }
    }
}
