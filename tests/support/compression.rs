//! Routes that compress in one way each, and what goes through them.

/// `/gzip/…`, `/br/…`, `/zstd/…`; `/any/…` takes what the client likes best, `/off/…` does not compress.
pub(crate) fn routes() -> String {
    let mut config = "log.access = false\ncors.origins = [\"*\"]\n\
                      cors.exposed_headers = [\"Content-Encoding\"]\n\
                      [[clusters]]\nname = \"main\"\nbackends = [\"http://{backend}\"]\n"
        .to_owned();
    for (name, keys) in [
        ("gzip", "enabled = true\ncodings = [\"gzip\"]"),
        ("br", "enabled = true\ncodings = [\"br\"]"),
        ("zstd", "enabled = true\ncodings = [\"zstd\"]"),
        ("any", "enabled = true"),
        ("off", "enabled = false"),
    ] {
        config += &format!(
            "[[routes]]\ncluster = \"main\"\npath_prefix = \"/{name}/\"\n\
             strip_prefix = \"/{name}\"\n[routes.compression]\n{keys}\n"
        );
    }
    config
}

/// What the mock generates.
pub(crate) fn payload(length: usize) -> Vec<u8> {
    let byte = |at: usize| match at % 64 {
        63 => b'\n',
        column => b'!' + ((at / 64 + column) % 90) as u8,
    };
    (0..length).map(|at| byte(at % 65_536)).collect()
}
